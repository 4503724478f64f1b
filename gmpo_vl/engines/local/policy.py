"""The model that a local run trains, and the one it is held against."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config import Config
from gmpo_vl.engines.policy import Policy
from gmpo_vl.models.compat import enable_gradient_checkpointing
from gmpo_vl.models.features import frozen_features
from gmpo_vl.models.forward import answer_packed, unwrap
from gmpo_vl.models.geometry import vision_tower
from gmpo_vl.models.loading import banned_ids, load_model, model_folder
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.setup import DTYPES


def build_policy(config: Config, processor: Processor, folder: str | Path | None = None) -> Policy:
    """Model (with LoRA, frozen tower, checkpointing as configured), on the GPU where there is one.

    folder: of its weights, where they are not those that the run starts from.
    """
    actor = config.worker.actor
    folder = model_folder(str(folder or actor.model.model_path))
    dtype = DTYPES[actor.fsdp.torch_dtype or "fp32"]
    model: Any = load_model(folder, dtype, **actor.model.override_config)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    visual = vision_tower(model)
    if actor.model.freeze_vision_tower and visual is not None:
        visual.requires_grad_(False)
    if actor.model.lora.rank > 0:
        model = _with_lora(model, config)
    if actor.model.enable_gradient_checkpointing:
        enable_gradient_checkpointing(unwrap(model))
    answer_packed(model)
    compute = DTYPES[actor.fsdp.mp_param_dtype]
    return Policy(
        model=model,
        features=frozen_features(model, processor.image),
        processor=processor,
        banned_ids=banned_ids(unwrap(model).config),
        autocast_dtype=None if compute == dtype else compute,
        share_prefix=actor.share_prefix != "never" and sharing_obstacle(unwrap(model).config) is None,
    )


def _with_lora(model: Any, config: Config) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = config.worker.actor.model.lora
    targets = [name.strip() for name in lora.target_modules.split(",")]
    torch.manual_seed(config.data.seed)  # the adapters' starting values
    return get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            # peft reads a string as `all-linear` or a regular expression of whole names, a list as names' ends.
            target_modules=targets if len(targets) > 1 or targets[0].isidentifier() else targets[0],
            exclude_modules=_without_adapters(config),
            task_type="CAUSAL_LM",
        ),
    )


def _without_adapters(config: Config) -> str | None:
    """Regular expression of modules that get none: as configured, and a frozen tower, which adapters would train."""
    excluded = config.worker.actor.model.lora.exclude_modules
    if not config.worker.actor.model.freeze_vision_tower:
        return excluded
    return ".*visual.*" if excluded is None else f"(?:{excluded})|.*visual.*"


def build_reference(config: Config, policy: Policy, resumed: bool) -> Any | None:
    """The model that KL is measured against: None without KL, the policy without its adapters under LoRA, else a copy.

    resumed: the policy's weights are a checkpoint's, so the starting model is read again.
    """
    if config.algorithm.disable_kl or config.worker.actor.model.lora.rank > 0:
        return None
    start = build_policy(config, policy.processor).model if resumed else copy.deepcopy(policy.model)
    return start.requires_grad_(False).eval()
