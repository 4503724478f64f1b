"""How many tokens a forward may hold where nobody said: what the memory estimate leaves room for."""

from __future__ import annotations

from dataclasses import replace

import psutil
import torch

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config
from gmpo_vl.engines.memory import ModelSize, PromptLengths, estimate_easyr1, estimate_local, model_size
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.models.shared import sharing_obstacle

# Part of the memory that an estimate may fill: the rest is the allocator's gaps and what libraries hold.
USABLE = 0.8
# Longer rows are no faster per token, and a run's splits should not depend on how much more memory there is.
MOST = 16_384
STEP = 1_024
SAYS_SO = (
    "worker.actor.max_tokens_per_micro_batch",
    "worker.actor.micro_batch_size_per_device_for_update",
    "worker.actor.micro_batch_size_per_device_for_experience",
)


def with_fitting_tokens(config: Config, prompts: PromptSet) -> Config:
    """The configuration with `max_tokens_per_micro_batch` where no key says what a forward may hold.

    The memory is a GPU's, or on engine local without one half of the host's (all of it counts, free or not: a run that goes
    on splits as it did). Where it is not known (a driver of engine easyr1 without a GPU) everything stays as it is.
    """
    if any(key in config.written for key in SAYS_SO) or _memory(config) is None:
        return config
    model = config.worker.actor.model
    size = model_size(model_folder(str(model.model_path)), **model.override_config)
    image = prompts.processor.image
    # The longest prompt need not be the one with the most pictures: each at its worst, as the doctor takes them.
    patches = 0 if image is None else max(prompts.picture_lengths) * image.merge_size**2
    return fitting(config, size, PromptLengths(max(prompts.lengths), ((1, patches, 1),) if patches else ()))


def fitting(config: Config, size: ModelSize, longest: PromptLengths) -> Config:
    """The same for who knows model and longest prompt already."""
    memory = _memory(config)
    if any(key in config.written for key in SAYS_SO) or memory is None:
        return config
    tokens = tokens_that_fit(config, size, longest, USABLE * memory)
    actor = replace(config.worker.actor, max_tokens_per_micro_batch=tokens)
    return replace(config, worker=replace(config.worker, actor=actor))


def tokens_that_fit(config: Config, size: ModelSize, longest: PromptLengths, memory: float) -> int:
    """The most tokens, in steps of 1,024, with which the log-prob and update passes stay within `memory` bytes.

    At least one row of the longest prompt and response, which cannot be made smaller, at most MOST.
    """
    row = longest.tokens + config.data.max_response_length
    fitting = row
    for tokens in range(-(-row // STEP) * STEP, MOST + 1, STEP):
        if _peak(config, size, longest, tokens) > memory:
            break
        fitting = tokens
    return fitting


def _peak(config: Config, size: ModelSize, longest: PromptLengths, tokens: int) -> float:
    shared = config.worker.actor.share_prefix != "never" and sharing_obstacle(size.config) is None
    limits = Limits(max_tokens=tokens, share_prefix=shared)
    if config.engine == "easyr1":
        found = estimate_easyr1(config, size, longest, limits, limits, free=0.0)
    else:
        found = estimate_local(config, size, longest, limits, limits, torch.cuda.is_available())
    return max(found.of_phase("log_probs"), found.of_phase("update"))


def _memory(config: Config) -> float | None:
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return psutil.virtual_memory().total / 2 if config.engine == "local" else None
