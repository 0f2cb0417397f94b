"""The four kinds of step a study is made of, as functions of a spec and folders. Importing this readies a worker."""

from __future__ import annotations

import peft  # noqa: F401  (loaded ahead of time, so that a forked worker starts at once)
import pyarrow.parquet  # noqa: F401
import torch
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.utils import logging

from finescale.lab import fastpath
from finescale.lab.checkpoint import bring, same_chat, words
from finescale.lab.finetune import finetune, search_rate
from finescale.lab.prepare import prepare
from finescale.lab.pretrain import pretrain

torch.set_num_threads(1)
fastpath.keep_freed_memory()
get_checkpoint_conversion_mapping("llama")  # compiles and keeps hundreds of patterns: once here, not in every worker
logging.disable_progress_bar()

__all__ = ["bring", "finetune", "prepare", "pretrain", "same_chat", "search_rate", "words"]
