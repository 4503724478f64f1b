"""A LoRA checkpoint of engine local as a plain model folder. Without LoRA a checkpoint holds one already."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.engines.checkpoint import check_whole
from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.loading import copy_without_weights, load_model
from gmpo_vl.storage.files import read_object

_OF_AN_ADAPTER = ("adapter_config.json", "README.md")


def export_merged(checkpoint: Path, folder: Path) -> None:
    """Write `folder`: the adapter merged into its model in float32, in the dtype that its config.json names.

    checkpoint: checkpoints/step_N. Raises ValueError where it was not trained with LoRA, or is damaged.
    """
    source = checkpoint / "huggingface"
    if not (source / "adapter_config.json").exists():
        raise ValueError(f"{checkpoint} is engine local's: {source} is a Hugging Face folder")
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name another folder")
    check_whole(checkpoint)
    config = read_object(source / "config.json") or {}
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    model: Any = load_model(source).to(dtype)
    partial = folder.with_name(f".partial_{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    save_pretrained(model, partial)
    copy_without_weights(source, partial)
    for name in _OF_AN_ADAPTER:
        (partial / name).unlink(missing_ok=True)
    os.replace(partial, folder)
