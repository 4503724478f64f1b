"""The memory that a configuration's step takes at its highest point, on each engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gmpo_vl.batching.planning import Limits, Shape, micro_batches, rows_of, shapes_of
from gmpo_vl.config import Config
from gmpo_vl.models.allocator import is_glibc
from gmpo_vl.models.head import HEAD_CHUNK
from gmpo_vl.models.shared import is_known
from gmpo_vl.rollout.cache import state_tokens
from gmpo_vl.setup import validation_sampling_of, vision_is_frozen
from gmpo_vl.sizing.limits import PassLimits
from gmpo_vl.sizing.memory import (
    Estimate,
    Part,
    Parts,
    Setting,
    Widths,
    generate_parts,
    held_parts,
    log_probs_parts,
    total,
    update_parts,
)
from gmpo_vl.sizing.parameters import ModelSize, lora_parameters
from gmpo_vl.types import Example, Group, Prompt, Response

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Asked:
    """So many prompts with n answers each."""

    prompts: int
    n: int


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of a prompt, and the grids of its pictures: patches in (time, height, width)."""

    tokens: int
    grids: tuple[tuple[int, int, int], ...] = ()


def estimate_local(
    config: Config, size: ModelSize, longest: PromptLengths, limits: PassLimits, cuda: bool
) -> Estimate:
    """A step of engine local: all of it on one device, every prompt as long as the longest, and in each phase
    the answers of the length that takes most. size: of a model whose widths are known."""
    of, setting, rows = _widths(size), _local_setting(config, size, cuda), config.data.rollout_batch_size
    together = (
        _sampled(config, size.config, prompt, asked.n)[: asked.prompts]
        for prompt in (longest, PromptLengths(1))
        for asked in _asked(config, rows, turns=1)
    )
    log_probs, update = _largest_passes(config, of, setting, longest, limits)
    return Estimate(
        held=held_parts(setting),
        generate=_most(generate_parts(of, setting, groups) for groups in together),
        log_probs=log_probs,
        update=(*update, *_half_gradient(config, setting)),
    )


def estimate_easyr1(
    config: Config, size: ModelSize, longest: PromptLengths, limits: PassLimits, free: float
) -> Estimate:
    """A step of engine easyr1 on each GPU. FSDP shards what is held; vLLM takes its share while it samples.

    free: bytes of a GPU's memory, 0 where it is not known.
    """
    of, setting = _widths(size), _easyr1_setting(config, size)
    shards = _shards(config)
    log_probs, update = _largest_passes(_per_rank(config), of, setting, longest, limits)
    held = tuple(
        replace(part, bytes=part.bytes / shards, assumption=f"{part.assumption}; one of {shards} shards")
        for part in held_parts(setting)
    )
    held += _stays_gathered(config, size)
    stays = tuple(part for part in held if not _moved_away(part.name, config))
    comes = [part for part in held if part not in stays]
    first, last = _unsummed_gradients(config, size, shards)
    gathered = _gathered(config, size)
    return Estimate(
        held=stays,
        generate=(_vllm(config, size, free),),
        log_probs=(*log_probs, gathered, *(part for part in comes if part.name in ("weights", "reference"))),
        update=(
            *_most([(*update, *first), last]),
            *_half_gradient(config, setting, shards),
            gathered,
            *(part for part in comes if part.name != "reference"),
        ),
    )


def _half_gradient(config: Config, s: Setting, shards: int = 1) -> Parts:
    """What an update keeps while its noise is measured (engines/halves.py)."""
    if config.trainer.grad_noise_freq <= 0:
        return ()
    why = "a copy after half of an update's groups, in steps that trainer.grad_noise_freq measures"
    return (Part("half's gradient", s.trained * s.weight_bytes / shards, why),)


def _asked(config: Config, rows: int, turns: int) -> list[Asked]:
    """What `rows` rows of the data may ask in one forward. Of games: their first turns alone, which a row's
    episodes have in common, and later turns alone, each a prompt of its own, up to `turns` of an episode."""
    asked, n = [Asked(rows, config.worker.rollout.n)], config.worker.rollout.n
    return asked if config.environment.name is None else [*asked, Asked(rows * n * turns, 1)]


def sampling_peak(config: Config, size: ModelSize, longest: PromptLengths) -> float:
    """Bytes on a GPU of engine local while as many prompts are sampled together as `max_cached_tokens`
    allows, of any length up to the longest, for training or validation."""
    of, setting = _widths(size), _local_setting(config, size, cuda=True)
    later = () if config.environment.name is None else (1,)  # a later turn of a game is asked once
    counts = (config.worker.rollout.n, validation_sampling_of(config).n, *later)
    sampled = [
        _sampled(config, size.config, prompt, n) for prompt in (longest, PromptLengths(1)) for n in counts
    ]
    held = held_parts(setting)
    return max(total((*held, *generate_parts(of, setting, groups))) for groups in sampled)


def _widths(size: ModelSize) -> Widths:
    found = size.widths
    assert found is not None, size.why
    return found


def _local_setting(config: Config, size: ModelSize, cuda: bool) -> Setting:
    """Autocast computes in `mp_param_dtype`; what goes from layer to layer keeps the weights' dtype. peft
    holds adapters in float32."""
    actor = config.worker.actor
    weight, lora = BYTES[actor.fsdp.torch_dtype or "fp32"], actor.model.lora.rank > 0
    adapters = lora_parameters(config, size) if lora else 0
    frozen = size.vision if vision_is_frozen(config) else 0
    return Setting(
        parameters=size.parameters + adapters,
        trained=adapters if lora else size.parameters - frozen,
        weight_bytes=BYTES["fp32"] if lora else weight,
        frozen_bytes=weight,
        residual_bytes=weight,
        compute_bytes=BYTES[actor.fsdp.mp_param_dtype],
        checkpointing=actor.model.enable_gradient_checkpointing,
        vision_trained=not frozen,
        reference_bytes=0 if config.algorithm.disable_kl or lora else weight,
        entropy=_trains_entropy(config),
        gaps=not cuda and is_glibc(),
        head_chunk=_head_chunk(config, size),
    )


def _trains_entropy(config: Config) -> bool:
    """Is an entropy in the loss? Beside it PAPO needs no more memory: its passes run one after the other."""
    papo = config.algorithm.papo
    coefs = config.worker.actor.entropy_coef, papo.ori_entropy_loss_coef, papo.aug_entropy_loss_coef
    return any(coefs)


def _head_chunk(config: Config, size: ModelSize) -> int:
    """Positions of the head at once: all of a response where the model's own forward may be what computes
    them."""
    return HEAD_CHUNK if is_known(size.config) else max(HEAD_CHUNK, config.data.max_response_length)


def _easyr1_setting(config: Config, size: ModelSize) -> Setting:
    """FSDP casts the residual too. LoRA's base is in bf16, the reference in a dtype of its own."""
    actor, ref, local = config.worker.actor, config.worker.ref, _local_setting(config, size, cuda=True)
    has_reference = local.reference_bytes and not ref.fsdp.enable_cpu_offload
    return replace(
        local,
        weight_bytes=BYTES[actor.fsdp.torch_dtype or "fp32"],
        frozen_bytes=BYTES["bf16"] if actor.model.lora.rank > 0 else local.weight_bytes,
        residual_bytes=local.compute_bytes,
        reference_bytes=BYTES[ref.fsdp.torch_dtype or "bf16"] if has_reference else 0,
        gradients_kept=False,
        bf16_optimizer=actor.optim.strategy == "adamw_bf16",
    )


def _most(candidates: Iterable[Parts]) -> Parts:
    return max(candidates, key=total)


def _largest_passes(
    config: Config, of: Widths, setting: Setting, longest: PromptLengths, limits: PassLimits
) -> tuple[Parts, Parts]:
    """Parts of the largest forward of the log-prob passes and of the update.

    Where tokens bound a forward, several lengths are tried: short answers leave room for more pictures.
    """
    data, turns = config.data, config.environment.max_turns
    in_tokens = limits.score.max_tokens is not None or limits.update.max_tokens is not None
    lengths = _halvings(data.max_response_length)[: None if in_tokens else 1]

    def largest(limits: Limits, rows: int) -> Iterator[list[Shape]]:
        for asked in _asked(config, rows, turns):
            yield from (_largest(asked, longest, length, limits) for length in lengths)

    scored = largest(limits.score, data.rollout_batch_size)
    updated = largest(limits.update, config.worker.actor.global_batch_size)
    return (
        _most(log_probs_parts(of, setting, groups) for groups in scored),
        _most(update_parts(of, setting, groups) for groups in updated),
    )


def _halvings(length: int) -> list[int]:
    """length, half of it, ..., 1"""
    return [length] if length <= 1 else [length, *_halvings(length // 2)]


def _largest(asked: Asked, prompt: PromptLengths, response: int, limits: Limits) -> list[Shape]:
    """The micro-batch with the most tokens, as shapes of its groups, which are all alike."""
    count = asked.prompts
    if limits.max_tokens is not None:  # no forward holds more
        count = min(count, 1 + limits.max_tokens // prompt.tokens)
    if limits.max_rows is not None:
        count = min(count, limits.max_rows)
    groups = groups_of_lengths([prompt] * count, response, asked.n)
    found = [shapes_of([batch]) for batch in micro_batches(rows_of(groups), limits)]
    return max(found, key=lambda shapes: sum(s.prompt + sum(s.responses) for s in shapes))


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


def _sampled(config: Config, model: Any, prompt: PromptLengths, n: int) -> list[Shape]:
    """What is sampled together of prompts that are all like this one: at least one."""
    length = config.data.max_response_length
    together = config.worker.rollout.max_cached_tokens // (n * (prompt.tokens + length + state_tokens(model)))
    return [Shape(prompt.tokens, (length,) * n, prompt.grids)] * max(1, together)


def _per_rank(config: Config) -> Config:
    """The configuration with the prompts that one GPU gets of a step and of an update."""
    world = config.trainer.nnodes * config.trainer.n_gpus_per_node
    data, actor = config.data, config.worker.actor
    return replace(
        config,
        data=replace(data, rollout_batch_size=max(1, data.rollout_batch_size // world)),
        worker=replace(
            config.worker, actor=replace(actor, global_batch_size=max(1, actor.global_batch_size // world))
        ),
    )


def _shards(config: Config) -> int:
    """GPUs that share the parameters."""
    world = config.trainer.nnodes * config.trainer.n_gpus_per_node
    asked = config.worker.actor.fsdp.fsdp_size
    return asked if 0 < asked < world else world


def _vllm(config: Config, size: ModelSize, free: float) -> Part:
    rollout = config.worker.rollout
    if free:
        share = rollout.gpu_memory_utilization
        return Part("vLLM", share * free, f"gpu_memory_utilization {share}")
    weights = size.parameters * BYTES[rollout.dtype] / rollout.tensor_parallel_size
    return Part("vLLM", weights, "its weights alone: how large a GPU is, is not known here")


def _moved_away(part: str, config: Config) -> bool:
    """Is it not on the GPU while vLLM samples?"""
    offload = config.worker.actor.offload
    return {
        "gradients": True,
        "weights": offload.offload_params,
        "optimizer": offload.offload_optimizer,
        "reference": config.worker.ref.offload.offload_params,
    }.get(part, False)


def _gathered(config: Config, size: ModelSize) -> Part:
    """What FSDP has put together at once, in the dtype it computes in, without what stays gathered anyway.

    A layer is a unit; the rest is the root's, which stays from its forward on (verl/utils/fsdp_utils.py).
    """
    fsdp = config.worker.actor.fsdp
    if not fsdp.enable_full_shard:
        weights = size.parameters - (size.vision if vision_is_frozen(config) else 0)
        return Part("gathered", weights * BYTES[fsdp.mp_param_dtype], "all weights, for the backward")
    ends, layer = _units(size)
    count, why = ends + 2 * layer, "embeddings, head and two layers, put together for their turn"
    return Part("gathered", count * BYTES[fsdp.mp_param_dtype], why)


def _stays_gathered(config: Config, size: ModelSize) -> Parts:
    """ZeRO-2 leaves a layer gathered until its backward. A reference and a frozen ViT have none.

    Counted with the ViT's mergers, which are the root's and sharded again.
    """
    actor, ref, found = config.worker.actor, config.worker.ref.fsdp, []
    why = "fsdp.enable_full_shard is false, and there is no backward after which it would be sharded again"
    if not actor.fsdp.enable_full_shard and size.vision and vision_is_frozen(config):
        found.append(Part("gathered ViT", size.vision * BYTES[actor.fsdp.mp_param_dtype], why))
    if not ref.enable_full_shard and not config.algorithm.disable_kl and actor.model.lora.rank == 0:
        layers = size.parameters - _units(size)[0]
        found.append(Part("gathered reference", layers * BYTES[ref.mp_param_dtype], why))
    return tuple(found)


def _unsummed_gradients(config: Config, size: ModelSize, shards: int) -> tuple[Parts, Parts]:
    """Gradients that FSDP has not summed over the GPUs yet: at the backward's start, beside activations and
    logits, and at its end, when these are gone.

    Embeddings and head are one unit. The head's gradient waits, as computed, until the embeddings' is there.
    Both are then copied for the sum, of which every GPU gets its shard. Gradients of adapters are too small
    to count.
    """
    fsdp = config.worker.actor.fsdp
    if config.worker.actor.model.lora.rank > 0:
        return (), ()
    ends, layer = _units(size)
    of, computed, summed = _widths(size), BYTES[fsdp.mp_param_dtype], BYTES[fsdp.mp_reduce_dtype]
    first = of.vocabulary * of.hidden * computed + layer * (computed + summed)
    last = ends * (computed + summed + summed / shards)
    of_first = "gradients of the head and of one layer, on their way to the other GPUs"
    of_last = (
        "gradients of embeddings and head, on their way to the other GPUs after the last activation is gone"
    )
    return (Part("unsummed", first, of_first),), (Part("unsummed", last, of_last),)


def _units(size: ModelSize) -> tuple[int, float]:
    """Parameters of embeddings and head, and of a layer of the decoder."""
    of = _widths(size)
    tied = getattr(size.config, "tie_word_embeddings", False)
    ends = of.vocabulary * of.hidden * (1 if tied else 2)
    return ends, (size.parameters - size.vision - ends) / of.layers
