"""What a configuration's largest forwards hold, for the estimate of batching/memory.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gmpo_vl.batching.cost import Shape
from gmpo_vl.batching.memory import Estimate, Part, Setting, estimate, widths
from gmpo_vl.batching.planning import Limits, micro_batches, rows_of, shapes_of
from gmpo_vl.config import Config
from gmpo_vl.data.types import Example, Prompt
from gmpo_vl.engines.setup import vision_is_frozen
from gmpo_vl.models.allocator import is_glibc
from gmpo_vl.models.loading import model_config
from gmpo_vl.rollout.types import Group, Response

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of a prompt, and the grids of its pictures: patches in (time, height, width)."""

    tokens: int
    grids: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, counted without its weights."""

    config: Any
    parameters: int
    vision: int


def model_size(folder: Any, **overrides: Any) -> ModelSize:
    """Build the model on the meta device, where nothing is allocated, and count. overrides: of its configuration.

    Raises ValueError for an override that the configuration does not know, and for a configuration of no model.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    config = model_config(folder, **overrides)
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"{folder}: no model can be built from its config.json: {error}") from error
    visual = getattr(model.model, "visual", None)
    vision = sum(p.numel() for p in visual.parameters()) if visual is not None else 0
    return ModelSize(config, sum(p.numel() for p in model.parameters()), vision)


def estimate_local(
    config: Config,
    size: ModelSize,
    longest: PromptLengths,
    score_limits: Limits,
    update_limits: Limits,
    cuda: bool,
    fsdp: bool = False,
) -> Estimate:
    """The estimate for engine local, all of it on one device: every prompt at its longest, and for each phase the answers of
    the length that takes most. Where tokens bound a forward that need not be the longest: short answers leave room for
    more prompts with their pictures.

    fsdp: the forward is FSDP's, which casts what goes from layer to layer; EasyR1's LoRA is the language model's alone, on a
    base in bf16, and its AdamW is fused.
    """
    actor, data, n = config.worker.actor, config.data, config.worker.rollout.n
    of = widths(size.config)
    lora, weight = actor.model.lora.rank > 0, BYTES[actor.fsdp.torch_dtype or "fp32"]
    frozen = size.vision if vision_is_frozen(config) else 0
    setting = Setting(
        parameters=size.parameters,
        trained=lora_parameters(config, of) if lora else size.parameters - frozen,
        weight_bytes=weight,
        frozen_bytes=BYTES["bf16"] if lora and fsdp else weight,
        residual_bytes=BYTES[actor.fsdp.mp_param_dtype] if fsdp else weight,
        compute_bytes=BYTES[actor.fsdp.mp_param_dtype],
        checkpointing=actor.model.enable_gradient_checkpointing,
        vision_trained=not frozen,
        reference=not config.algorithm.disable_kl and not lora,
        temporary_moments=cuda and not fsdp,
        gaps=not cuda and is_glibc(),
    )
    whole = Shape(longest.tokens, (data.max_response_length,) * n, longest.grids)
    together = config.worker.rollout.max_cached_tokens // (n * (longest.tokens + data.max_response_length))
    sampled = [whole] * max(1, min(together, data.rollout_batch_size))

    def at(length: int) -> Estimate:
        def largest(limits: Limits, prompts: int) -> list[Shape]:
            return _largest(groups_of_lengths([longest] * prompts, length, n), limits)

        scored = largest(score_limits, data.rollout_batch_size)
        return estimate(of, setting, sampled, scored, largest(update_limits, actor.global_batch_size))

    in_tokens = score_limits.max_tokens is not None or update_limits.max_tokens is not None
    found = [at(length) for length in _halvings(data.max_response_length)[: None if in_tokens else 1]]

    def most(phase: str) -> tuple[Part, ...]:
        return max((getattr(e, phase) for e in found), key=lambda parts: sum(part.bytes for part in parts))

    return replace(found[0], log_probs=most("log_probs"), update=most("update"))


def _halvings(length: int) -> list[int]:
    """length, half of it, ..., 1"""
    return [length] if length <= 1 else [length, *_halvings(length // 2)]


def lora_parameters(config: Config, of: Any) -> int:
    """Of adapters on every linear layer of the decoder: rank x (inputs + outputs) each."""
    pairs = 2 * (of.hidden + of.queries) + 2 * (of.hidden + of.keys) + 3 * (of.hidden + of.mlp)
    return of.layers * config.worker.actor.model.lora.rank * pairs


def groups_of_lengths(prompts: Sequence[PromptLengths], response: int, n: int) -> list[Group]:
    """Groups that have nothing but their lengths, for the planner that the run will use."""
    ids_T = torch.zeros(1, dtype=torch.int64).expand(response)  # in the memory of one token
    answer = Response(ids_T, torch.zeros(0), "", False, 0)
    nowhere_30 = torch.zeros((3, 0), dtype=torch.int64)
    groups = []
    for k, lengths in enumerate(prompts):
        grid_N3 = torch.tensor(lengths.grids, dtype=torch.int64).reshape(-1, 3)
        ids_P = torch.zeros(lengths.tokens, dtype=torch.int64)
        prompt = Prompt(Example("", "", ""), "", ids_P, (), grid_N3, nowhere_30)
        groups.append(Group(str(k), prompt, [answer] * n))
    return groups


def _largest(groups: Sequence[Group], limits: Limits) -> list[Shape]:
    """The micro-batch with the most tokens, as shapes of its groups. groups: all alike."""
    if limits.max_tokens is not None:  # no forward holds more
        groups = groups[: 1 + limits.max_tokens // len(groups[0].prompt.ids_P)]
    found = [shapes_of([batch]) for batch in micro_batches(rows_of(groups), limits)]
    return max(found, key=lambda shapes: sum(s.prompt + sum(s.responses) for s in shapes))


def estimate_easyr1(
    config: Config,
    size: ModelSize,
    longest: PromptLengths,
    score_limits: Limits,
    update_limits: Limits,
    free: float,
) -> Estimate:
    """The estimate per GPU for engine easyr1: FSDP shards what is held, vLLM takes its share while it samples.

    free: bytes of a GPU's memory, 0 where it is not known.
    """
    actor, rollout = config.worker.actor, config.worker.rollout
    world = config.trainer.nnodes * config.trainer.n_gpus_per_node
    shards = actor.fsdp.fsdp_size if 0 < actor.fsdp.fsdp_size < world else world
    per_rank = replace(
        config,
        data=replace(config.data, rollout_batch_size=max(1, config.data.rollout_batch_size // world)),
        worker=replace(
            config.worker, actor=replace(actor, global_batch_size=max(1, actor.global_batch_size // world))
        ),
    )
    whole = estimate_local(per_rank, size, longest, score_limits, update_limits, cuda=True, fsdp=True)
    held = tuple(
        replace(part, bytes=part.bytes / shards, assumption=f"{part.assumption}; one of {shards} shards")
        for part in _as_easyr1_holds(whole.held, config, size)
    )
    gathered = _gathered(config, size)
    weights = size.parameters * BYTES[rollout.dtype] / rollout.tensor_parallel_size
    sampling = (
        Part(
            "vLLM",
            rollout.gpu_memory_utilization * free,
            f"gpu_memory_utilization {rollout.gpu_memory_utilization}",
        )
        if free
        else Part("vLLM", weights, "its weights alone: how large a GPU is, is not known here")
    )
    there = [part for part in held if not _moved_away(part.name, config)]
    passing = [part for part in held if part.name in ("weights", "reference") and part not in there]
    return Estimate(
        held=tuple(there),
        generate=(sampling,),
        log_probs=(*_without_cast(whole.log_probs), gathered, *passing),
        update=(
            *_without_cast(whole.update),
            gathered,
            *_unsummed(config, size),
            *(part for part in held if part.name != "reference" and part not in there),
        ),
    )


def _as_easyr1_holds(parts: Sequence[Part], config: Config, size: ModelSize) -> list[Part]:
    """Before it is sharded: a reference of its own dtype, and what adamw_bf16 keeps in bf16."""
    actor, ref = config.worker.actor, config.worker.ref
    weight = BYTES[actor.fsdp.torch_dtype or "fp32"]
    found = []
    for part in parts:
        if part.name == "reference":
            if ref.fsdp.enable_cpu_offload:
                continue
            part = replace(part, bytes=size.parameters * BYTES[ref.fsdp.torch_dtype or "bf16"])
        if part.name == "gradients":
            part = replace(part, assumption="of what is trained, dropped after a step's updates")
        if part.name == "optimizer" and actor.optim.strategy == "adamw_bf16":
            moments = "two moments and what rounding drops, in bf16"
            part = Part("optimizer", part.bytes / (2 * weight) * 3 * BYTES["bf16"], f"adamw_bf16: {moments}")
        found.append(part)
    return found


def _gathered(config: Config, size: ModelSize) -> Part:
    """What FSDP has put together at once, in the dtype it computes in (verl/utils/fsdp_utils.py: a layer is a unit, the rest
    is the root's, which stays from its forward on)."""
    fsdp = config.worker.actor.fsdp
    if not fsdp.enable_full_shard:
        return Part("gathered", size.parameters * BYTES[fsdp.mp_param_dtype], "all weights, for the backward")
    ends, layer = _units(size)
    return Part(
        "gathered",
        (ends + 2 * layer) * BYTES[fsdp.mp_param_dtype],
        "embeddings, head and two layers, put together for their turn",
    )


def _unsummed(config: Config, size: ModelSize) -> tuple[Part, ...]:
    """Gradients at the backward's start, before FSDP has summed them over the GPUs: the head's, which waits for the
    embeddings', and a layer's, once as computed and once as summed. Adapters' are too small to count."""
    fsdp = config.worker.actor.fsdp
    if config.worker.actor.model.lora.rank > 0:
        return ()
    _, layer = _units(size)
    of, computed, summed = widths(size.config), BYTES[fsdp.mp_param_dtype], BYTES[fsdp.mp_reduce_dtype]
    return (
        Part(
            "unsummed",
            of.vocabulary * of.hidden * computed + layer * (computed + summed),
            "gradients of the head and of one layer, on their way to the other GPUs",
        ),
    )


def _units(size: ModelSize) -> tuple[int, float]:
    """Parameters of embeddings and head, and of a layer of the decoder."""
    of = widths(size.config)
    tied = getattr(size.config, "tie_word_embeddings", False)
    ends = of.vocabulary * of.hidden * (1 if tied else 2)
    return ends, (size.parameters - size.vision - ends) / of.layers


def _moved_away(part: str, config: Config) -> bool:
    """Is it not on the GPU while vLLM samples?"""
    offload = config.worker.actor.offload
    return (
        part == "gradients"
        or (part == "weights" and offload.offload_params)
        or (part == "optimizer" and offload.offload_optimizer)
        or (part == "reference" and config.worker.ref.offload.offload_params)
    )


def _without_cast(parts: Sequence[Part]) -> tuple[Part, ...]:
    """FSDP casts the weights it gathers; there is no second copy of all of them."""
    return tuple(part for part in parts if part.name != "cast weights")
