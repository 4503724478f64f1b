"""How many parameters a model has and how many of them are adapters, counted without its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gmpo_vl.config import Config
from gmpo_vl.models.loading import auto_class, model_config
from gmpo_vl.models.shared import KNOWN
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.memory import widths


@dataclass(frozen=True)
class ModelSize:
    """config: transformers'. vision: parameters of the ViT. linears: {linear layer: its inputs + outputs}."""

    config: Any
    parameters: int
    vision: int
    linears: Mapping[str, int] = field(default_factory=dict)


def model_size(folder: Any, **overrides: Any) -> ModelSize:
    """Build the model on the meta device, which allocates nothing, and count. overrides: of its config.

    Raises ValueError for an override that the configuration does not know, for a configuration of no model,
    and for a model with layers of a kind that cannot be counted here.
    """
    return size_of(model_config(folder, **overrides), str(folder))


def size_of(config: Any, where: str) -> ModelSize:
    """`model_size` of transformers' configuration. where: the place that an error names."""
    try:
        for known in (widths, rates):
            known(config)
        with torch.device("meta"):
            model = auto_class(config).from_config(config, trust_remote_code=False)
        visual = getattr(model.model, "visual", None)
    except AttributeError as error:
        raise ValueError(
            f"{where}: a model of kind {config.model_type!r} is not built like those that can be trained "
            f"here ({error}); "
            f"these can: {', '.join(sorted(KNOWN))}, and text models with Llama's layers"
        ) from error
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"{where}: no model can be built from its config.json: {error}") from error
    vision = sum(p.numel() for p in visual.parameters()) if visual is not None else 0
    linears = {
        name: module.in_features + module.out_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return ModelSize(config, sum(p.numel() for p in model.parameters()), vision, linears)


def lora_parameters(config: Config, size: ModelSize) -> int:
    """Parameters of adapters on the linear layers that peft would choose: rank x (inputs + outputs) each.

    Experts that lie in one tensor (transformers 5.x) are no linear layers and get no adapters.
    """
    model = config.worker.actor.model
    targets = [name.strip() for name in model.lora.target_modules.split(",")]

    def chosen(name: str) -> bool:
        if model.freeze_vision_tower and "visual" in name:
            return False
        if model.lora.exclude_modules and re.fullmatch(model.lora.exclude_modules, name):
            return False
        if targets == ["all-linear"]:
            return name != "lm_head"
        if len(targets) == 1 and re.fullmatch(targets[0], name):
            return True
        return any(f".{name}".endswith(f".{target}") for target in targets)

    return model.lora.rank * sum(pair for name, pair in size.linears.items() if chosen(name))
