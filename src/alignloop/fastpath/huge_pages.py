"""Memory for a decoding cache, in huge pages if the system offers them."""

import math
import mmap

import torch
from torch import Tensor

# 2 MiB: the huge page of x86-64 and of arm64 with 4 KiB pages
PAGE = 2**21


def zeros(like: Tensor, *shape: int, count: int) -> list[Tensor]:
    """`count` tensors of zeros with the dtype and device of `like`.

    Every step reads the whole cache. With pages of 4 KiB that means a page fault each and more
    pages than the TLB holds: on Linux, huge pages make rollouts of small models 5 to 10 % faster.
    Small tensors, and those not on a CPU, are allocated as usual.
    """
    size = math.prod(shape)
    needed = count * size * like.element_size()
    if like.device.type != "cpu" or needed < PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return [like.new_zeros(shape) for _ in range(count)]
    pages = mmap.mmap(-1, needed + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return [like.new_zeros(shape) for _ in range(count)]
    whole = torch.frombuffer(pages, dtype=like.dtype)  # keeps the pages alive with the tensors
    # mmap aligns to 4 KiB; only aligned 2 MiB ranges become huge pages
    skipped = -whole.data_ptr() % PAGE // like.element_size()
    return list(whole[skipped : skipped + count * size].view(count, *shape).unbind())
