"""Stage 1: supervised fine-tuning on demonstrations."""

from alignloop.sft.train import train_sft

__all__ = ["train_sft"]
