"""A step in numbers: batches, what the engine refuses of them, memory, and what sharing prompts saves."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gmpo_vl import setup
from gmpo_vl.config import Config, ConfigError
from gmpo_vl.engines.easyr1 import limits as easyr1
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import is_known, sharing_obstacle
from gmpo_vl.preflight.data_check import CheckResult
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.machine_check import device_memory
from gmpo_vl.sizing.budget import USABLE_GPU, fit_to_memory, gpu_memory, limits_at, not_estimated
from gmpo_vl.sizing.estimate import PromptLengths, estimate_easyr1, estimate_local
from gmpo_vl.sizing.limits import pass_limits
from gmpo_vl.sizing.memory import Estimate, gib, parts_table
from gmpo_vl.sizing.parameters import ModelSize
from gmpo_vl.sizing.sharing import PROMPTS, gain_table

# What a step may take of a host's memory: the rest is for the allocator's gaps, libraries and kernels.
USABLE = 0.9
_ADAPTERS = "worker.actor.model.lora.rank=64 trains adapters only"
_FEWER_TOKENS = "lower worker.actor.max_tokens_per_micro_batch"
_FEWER_CACHED = "lower worker.rollout.max_cached_tokens"
NOT_KNOWN = "see what a step takes: gmpo-vl doctor CONFIG --rehearse"
# What makes a part of the memory estimate smaller.
_ADVICE = {
    "weights": "a smaller model, or worker.actor.fsdp.torch_dtype=bf16 with worker.actor.model.lora.rank=64",
    "gradients": _ADAPTERS,
    "optimizer": _ADAPTERS,
    "unsummed": _ADAPTERS,
    "activations": "worker.actor.model.enable_gradient_checkpointing=true, or fewer "
    "worker.actor.max_tokens_per_micro_batch",
    "pictures": "lower data.max_pixels, or worker.actor.model.freeze_vision_tower=true",
    **dict.fromkeys(("KV cache", "prompts' KV cache", "mask", "features", "sampling"), _FEWER_CACHED),
    "vLLM": "lower worker.rollout.gpu_memory_utilization",
    "reference": "worker.ref.fsdp.enable_cpu_offload=true, or algorithm.disable_kl=true as the paper",
    "gathered": "worker.actor.fsdp.enable_full_shard=true; where it is, a smaller model or LoRA",
    "gathered ViT": "worker.actor.fsdp.enable_full_shard=true",
    "gathered reference": "worker.ref.fsdp.enable_full_shard=true",
}


def check_batches(config: Config, num_prompts: int | None) -> Iterator[Finding]:
    """Rollouts or episodes, updates and steps. num_prompts: usable train rows; None where the data cannot be
    read."""
    data, actor, n = config.data, config.worker.actor, config.worker.rollout.n
    steps, key = config.trainer.max_steps, "data.rollout_batch_size"
    if steps is None and num_prompts is not None:
        steps = config.trainer.total_epochs * num_prompts // data.rollout_batch_size
    updates = actor.ppo_epochs * -(-data.rollout_batch_size // actor.global_batch_size)
    turns = config.environment.max_turns
    plays = config.environment.name is not None
    rows, what = ("games", "episodes") if plays else ("prompts", "rollouts")
    up_to = f" of up to {turns:,} turns" if plays else ""
    rollouts = f"{data.rollout_batch_size:,} {rows} x {n} = {data.rollout_batch_size * n:,} {what}{up_to}"
    of = f"{updates:,} updates of {actor.global_batch_size * n:,} {what}"
    yield Finding("ok", "batches", f"{'steps' if steps is None else f'{steps:,} steps'} of {rollouts}, {of}")
    yield from engine_refusals(config)
    if num_prompts is None:
        return
    if steps == 0:
        what = f"{num_prompts:,} prompts are less than one step's {data.rollout_batch_size:,}"
        yield Finding("error", "batches", what, key, "lower it, or set trainer.max_steps")
    elif num_prompts < data.rollout_batch_size:
        what = (
            f"a step of {data.rollout_batch_size:,} prompts takes some of the {num_prompts:,} more than once"
        )
        yield Finding("warning", "batches", what, key, "lower it, or bring more data")


def engine_refusals(config: Config) -> Iterator[Finding]:
    """What engine easyr1 itself refuses; engine local's refusals end the reading of the configuration."""
    if config.engine != "easyr1":
        return
    try:
        easyr1.check(config)
        try:
            model = setup.configured_model(config)
        except (ValueError, OSError):
            return  # that the model cannot be had is said by the checks of the model
        easyr1.check_model(config, model)
    except ConfigError as error:
        change = "change it: engine easyr1 refuses this when it starts"
        for line in str(error).splitlines():
            yield Finding("error", "engine", line, "", change)


def prompt_lengths(result: CheckResult, processor: Processor, config: Config) -> list[PromptLengths]:
    """Of the train prompts that are not left out. Their pictures as one that has all their patches."""
    survey = result.surveys["train"]
    merged = processor.family.patches_per_token
    return [
        PromptLengths(tokens, ((1, images * merged, 1),) if images * merged else ())
        for tokens, images in zip(survey.tokens_K, survey.image_tokens_K)
        if tokens <= config.data.max_prompt_length
    ]


def check_step(
    config: Config, size: ModelSize, prompts: list[PromptLengths] | None, patches_per_token: int = 0
) -> Iterator[Finding]:
    """Memory at the longest prompt with the most pictures that one has, and what sharing saves.

    prompts: None where none could be measured, as later turns of games; all are then taken to be as long as
    they may be, and to be pictures of `patches_per_token`, or text where that is 0.
    """
    tokens = max((p.tokens for p in prompts or ()), default=config.data.max_prompt_length)
    grids = ((1, tokens * patches_per_token, 1),) if patches_per_token else ()
    longest = PromptLengths(tokens, max((p.grids for p in prompts or ()), default=grids))
    if prompts is None:
        kind = "pictures" if patches_per_token else "text"
        why, many = "no prompt was measured", "all"
        if config.environment.name is not None:
            why = "later turns are not known before games are played"
            many = f"{config.environment.max_turns:,} turns an episode"
        what = f"{why}: {many} are taken to have max_prompt_length tokens of {kind}"
        yield Finding("note", "memory", what)
    if size.text is None:
        yield Finding("note", "memory", not_estimated(size), "", NOT_KNOWN)
        return
    if not size.pictures_known:
        what = (
            f"pictures are not counted: the widths of the ViT of a {size.config.model_type!r} are not known"
        )
        yield Finding("note", "memory", what, "", NOT_KNOWN)
    fitted = fit_to_memory(config, size, longest)
    limits = limits_at(fitted.config, size)
    for reason in fitted.reasons:
        yield Finding("note", "memory", reason)
    cuda = torch.cuda.is_available()
    if config.engine == "easyr1":
        found = estimate_easyr1(config, size, longest, limits, free=device_memory()[1] if cuda else 0.0)
    else:
        found = estimate_local(fitted.config, size, longest, limits, cuda)
    yield _memory(found, device_memory() if config.engine == "local" or cuda else None)
    actor = config.worker.actor
    of = size.rates
    if not prompts or sharing_obstacle(size.config) is not None or actor.loss_type.startswith("easyr1/"):
        return
    assert of is not None
    chosen = prompts[:: -(-len(prompts) // PROMPTS)]
    table = "\n".join(gain_table(config, of, chosen, pass_limits(fitted.config, "shared")))
    if not size.pictures_known:
        table += "\npictures are not counted"
    if actor.share_prefix == "never":
        where, change = "worker.actor.share_prefix", "auto shares where the check passes and it pays"
        yield Finding("note", "sharing", f"it is off; with it a step would take\n{table}", where, change)
    else:
        proved = "" if is_known(size.config) else ", if the check at the run's start finds it right"
        yield Finding("ok", "sharing", f"each picture and prompt once per group{proved}\n{table}")


def _memory(found: Estimate, device: tuple[str, float] | None) -> Finding:
    """The estimate against what is free. device: (name, free bytes); None: it is not this machine's."""
    table = "\n".join(parts_table(found))
    if device is None:
        what = f"{gib(found.peak)} on each GPU; there is none here to compare with\n{table}"
        return Finding("note", "memory", what)
    (name, free), gpu = device, gpu_memory()
    if found.peak <= (USABLE * free if gpu is None else min(free, USABLE_GPU * gpu)):
        return Finding("ok", "memory", f"{gib(found.peak)} of {gib(free)} free on {name}\n{table}")
    phase = found.largest_phase
    largest = max((*found.held, *getattr(found, phase)), key=lambda part: part.bytes).name
    what = f"{gib(found.peak)} needed, {gib(free)} free on {name}\n{table}"
    return Finding("error", "memory", what, phase, _ADVICE.get(largest, _FEWER_TOKENS))
