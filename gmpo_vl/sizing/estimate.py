"""What a configuration's largest forwards hold, for the estimate of sizing/memory.py."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gmpo_vl.batching.planning import Limits, Shape, micro_batches, rows_of, shapes_of
from gmpo_vl.config import Config
from gmpo_vl.models.allocator import is_glibc
from gmpo_vl.models.loading import auto_class, model_config
from gmpo_vl.models.shared import KNOWN
from gmpo_vl.setup import validation_sampling_of, vision_is_frozen
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.memory import Estimate, Part, Setting, estimate, widths
from gmpo_vl.types import Example, Group, Prompt, Response

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of a prompt, and the grids of its pictures: patches in (time, height, width)."""

    tokens: int
    grids: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, counted without its weights. linears: inputs + outputs of each linear layer, by its name."""

    config: Any
    parameters: int
    vision: int
    linears: Mapping[str, int] = field(default_factory=dict)


def model_size(folder: Any, **overrides: Any) -> ModelSize:
    """Build the model on the meta device, where nothing is allocated, and count. overrides: of its configuration.

    Raises ValueError for an override that the configuration does not know, for a configuration of no model, and for a model
    whose layers are of a kind that nothing here can count.
    """
    return size_of(model_config(folder, **overrides), str(folder))


def size_of(config: Any, where: str) -> ModelSize:
    """The same from transformers' configuration. where: what an error names."""
    try:
        for known in (widths, rates):
            known(config)
        with torch.device("meta"):
            model = auto_class(config).from_config(config, trust_remote_code=False)
        visual = getattr(model.model, "visual", None)
    except AttributeError as error:
        raise ValueError(
            f"{where}: a model of kind {config.model_type!r} is not built like those that can be trained here ({error}); "
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
    base in bf16.
    """
    actor, data, n = config.worker.actor, config.data, config.worker.rollout.n
    of, setting = widths(size.config), _setting(config, size, cuda, fsdp)

    def at(length: int) -> Estimate:
        def largest(limits: Limits, prompts: int) -> list[Shape]:
            return _largest(groups_of_lengths([longest] * prompts, length, n), limits)

        scored = largest(score_limits, data.rollout_batch_size)
        return estimate(of, setting, [], scored, largest(update_limits, actor.global_batch_size))

    in_tokens = score_limits.max_tokens is not None or update_limits.max_tokens is not None
    found = [at(length) for length in _halvings(data.max_response_length)[: None if in_tokens else 1]]
    # Of shorter prompts more are sampled together.
    found += [
        estimate(of, setting, _sampled(config, prompt, n)[: data.rollout_batch_size], [], [])
        for prompt in (longest, PromptLengths(1))
    ]

    def most(phase: str) -> tuple[Part, ...]:
        return max((getattr(e, phase) for e in found), key=lambda parts: sum(part.bytes for part in parts))

    return replace(found[0], generate=most("generate"), log_probs=most("log_probs"), update=most("update"))


def sampling_peak(config: Config, size: ModelSize, longest: PromptLengths) -> float:
    """Bytes on a GPU of engine local while as many prompts are sampled together as `max_cached_tokens` allows, of any length
    up to the longest, for training or validation."""
    of, setting = widths(size.config), _setting(config, size, cuda=True, fsdp=False)
    counts = (config.worker.rollout.n, validation_sampling_of(config).n)
    sampled = [_sampled(config, prompt, n) for prompt in (longest, PromptLengths(1)) for n in counts]
    return max(estimate(of, setting, groups, [], []).of_phase("generate") for groups in sampled)


def _sampled(config: Config, prompt: PromptLengths, n: int) -> list[Shape]:
    """What is sampled together of prompts that are all like this one: at least one."""
    length = config.data.max_response_length
    together = config.worker.rollout.max_cached_tokens // (n * (prompt.tokens + length))
    return [Shape(prompt.tokens, (length,) * n, prompt.grids)] * max(1, together)


def _setting(config: Config, size: ModelSize, cuda: bool, fsdp: bool) -> Setting:
    actor = config.worker.actor
    lora, weight = actor.model.lora.rank > 0, BYTES[actor.fsdp.torch_dtype or "fp32"]
    frozen = size.vision if vision_is_frozen(config) else 0
    adapters = lora_parameters(config, size) if lora else 0
    return Setting(
        parameters=size.parameters + adapters,
        trained=adapters if lora else size.parameters - frozen,
        weight_bytes=weight,
        frozen_bytes=BYTES["bf16"] if lora and fsdp else weight,
        residual_bytes=BYTES[actor.fsdp.mp_param_dtype] if fsdp else weight,
        compute_bytes=BYTES[actor.fsdp.mp_param_dtype],
        checkpointing=actor.model.enable_gradient_checkpointing,
        vision_trained=not frozen,
        reference=not config.algorithm.disable_kl and not lora,
        entropy=actor.entropy_coef != 0,
        gaps=not cuda and is_glibc(),
    )


def _halvings(length: int) -> list[int]:
    """length, half of it, ..., 1"""
    return [length] if length <= 1 else [length, *_halvings(length // 2)]


def lora_parameters(config: Config, size: ModelSize) -> int:
    """Of adapters on the linear layers that peft would choose: rank x (inputs + outputs) each.

    Where experts lie in one tensor (transformers 5.x) they are no linear layers and get none.
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
    held += _stays_gathered(config, size)
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
    first, last = _gradients_on_their_way(config, size, shards)
    update = max((*_without_cast(whole.update), *first), last, key=lambda parts: sum(p.bytes for p in parts))
    return Estimate(
        held=tuple(there),
        generate=(sampling,),
        log_probs=(*_without_cast(whole.log_probs), gathered, *passing),
        update=(
            *update,
            gathered,
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
    is the root's, which stays from its forward on). Without what stays gathered anyway."""
    fsdp = config.worker.actor.fsdp
    if not fsdp.enable_full_shard:
        weights = size.parameters - (size.vision if vision_is_frozen(config) else 0)
        return Part("gathered", weights * BYTES[fsdp.mp_param_dtype], "all weights, for the backward")
    ends, layer = _units(size)
    return Part(
        "gathered",
        (ends + 2 * layer) * BYTES[fsdp.mp_param_dtype],
        "embeddings, head and two layers, put together for their turn",
    )


def _stays_gathered(config: Config, size: ModelSize) -> tuple[Part, ...]:
    """ZeRO-2 leaves a layer gathered until its backward. A reference and a frozen ViT have none, and stay so.
    Counted with what the root holds of a ViT, its mergers, which is sharded again."""
    actor, ref, found = config.worker.actor, config.worker.ref.fsdp, []
    why = "fsdp.enable_full_shard is false, and there is no backward after which it would be sharded again"
    if not actor.fsdp.enable_full_shard and size.vision and vision_is_frozen(config):
        found.append(Part("gathered ViT", size.vision * BYTES[actor.fsdp.mp_param_dtype], why))
    if not ref.enable_full_shard and not config.algorithm.disable_kl and actor.model.lora.rank == 0:
        layers = size.parameters - _units(size)[0]
        found.append(Part("gathered reference", layers * BYTES[ref.mp_param_dtype], why))
    return tuple(found)


def _gradients_on_their_way(
    config: Config, size: ModelSize, shards: int
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Gradients that FSDP has not summed over the GPUs yet: at the backward's start, beside activations and logits, and at
    its end, when these are gone. Embeddings and head are one unit: the head's waits, as computed, until the embeddings' is
    there, and both are copied for the sum, of which every GPU gets its shard. Adapters' are too small to count."""
    fsdp = config.worker.actor.fsdp
    if config.worker.actor.model.lora.rank > 0:
        return (), ()
    ends, layer = _units(size)
    of, computed, summed = widths(size.config), BYTES[fsdp.mp_param_dtype], BYTES[fsdp.mp_reduce_dtype]
    first = of.vocabulary * of.hidden * computed + layer * (computed + summed)
    last = ends * (computed + summed + summed / shards)
    return (
        (Part("unsummed", first, "gradients of the head and of one layer, on their way to the other GPUs"),),
        (
            Part(
                "unsummed",
                last,
                "gradients of embeddings and head, on their way to the other GPUs after the last activation is gone",
            ),
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
