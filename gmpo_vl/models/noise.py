"""Dropout and the like, switched off: an update's log-probs must be those of the policy that sampled."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

# attention_dropout, resid_pdrop, layerdrop, router_jitter_noise, drop_path_rate, ...
_NOISE = re.compile(r"(?:\w+_)?(?:dropout(?:_\w+)?|pdrop|layerdrop|jitter_noise|drop_path_rate|drop_rate)")


def without_noise(model: PreTrainedModel) -> None:
    """Change a loaded model: what is random in training mode alone is not any more."""
    config_without_noise(model.config)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        _silence(module)


def config_without_noise(config: PretrainedConfig) -> None:
    """The same for a configuration, those of its parts included."""
    _silence(config)
    for part in vars(config).values():
        if isinstance(part, PretrainedConfig):
            config_without_noise(part)


def is_noise(name: str) -> bool:
    """Is an attribute of this name a share of what is dropped or shaken?"""
    return _NOISE.fullmatch(name) is not None


def _silence(thing: Any) -> None:
    for name, value in vars(thing).items():
        if is_noise(name) and isinstance(value, float | int) and not isinstance(value, bool):
            setattr(thing, name, type(value)(0))
