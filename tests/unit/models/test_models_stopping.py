"""A saved model stops where ours does, by transformers' own `generate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from alignloop.config import LoraConfig, ModelConfig
from alignloop.data.templates import CHATML
from alignloop.data.turns import stop_tokens
from alignloop.models import load_policy, save_model
from alignloop.models.merging import merge_adapter
