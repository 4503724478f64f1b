"""What a forward and the cache of a rollout may hold where no key says it: the machine's memory decides.

On a GPU the default is EasyR1's own dynamic batching budget (limits.py). It is lowered only where the
estimate says that the memory does not hold it. That estimate is a sum of counted tensors: no fitted constant
is in it (fitted_constants.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.models.shared import first_way, sharing_obstacle
from gmpo_vl.rollout.cache import state_tokens
from gmpo_vl.sizing.estimate import PromptLengths, estimate_easyr1, estimate_local, sampling_peak
from gmpo_vl.sizing.limits import PassLimits, micro_batch_sizes, pass_limits
from gmpo_vl.sizing.memory import gib
from gmpo_vl.sizing.parameters import ModelSize, configured_size

# Part of a host's memory that an estimate may fill: the rest is the allocator's gaps and what libraries hold.
USABLE = 0.8
# Of a GPU's: the rest is CUDA's context, libraries' workspaces, and gaps of torch's allocator.
USABLE_GPU = 0.95
# On a host: longer rows are no faster per token, and a run should split the same with yet more memory.
MOST = 16_384
STEP = 1_024
SAYS_SO = (
    "worker.actor.max_tokens_per_micro_batch",
    "worker.actor.micro_batch_size_per_device_for_update",
    "worker.actor.micro_batch_size_per_device_for_experience",
)
CACHED = "worker.rollout.max_cached_tokens"


@dataclass(frozen=True)
class Fitted:
    """config: with what was chosen. reasons: lines on why a GPU gets less than EasyR1's budget."""

    config: Config
    reasons: tuple[str, ...] = ()


def with_fitting_tokens(config: Config, prompts: PromptSet) -> Fitted:
    """The configuration with `max_tokens_per_micro_batch` and `max_cached_tokens` where no key says them.

    The memory is a GPU's. Without one, engine local takes half of the host's, free or not, so that a resumed
    run splits as it did. Where the memory is not known (a driver of engine easyr1 without a GPU) everything
    stays as it is.
    """
    if not _to_choose(config):
        return Fitted(config)
    return fit_to_memory(config, *_model_and_longest(config, prompts))


def _model_and_longest(config: Config, prompts: PromptSet) -> tuple[ModelSize, PromptLengths]:
    size = configured_size(config)
    tokens, image_tokens = max(prompts.lengths), max(prompts.picture_lengths)
    if config.environment.name is not None:  # later turns are longer, and may show more than the first
        tokens = image_tokens = config.data.max_prompt_length
    # The most tokens and the most pictures may be in different prompts: each at its worst.
    patches = image_tokens * prompts.processor.family.patches_per_token
    return size, PromptLengths(tokens, ((1, patches, 1),) if patches else ())


def fit_to_memory(config: Config, size: ModelSize, longest: PromptLengths) -> Fitted:
    """`with_fitting_tokens` where model and longest prompt are known already."""
    chosen, gpu = _to_choose(config), gpu_memory()
    if chosen and size.text is None:
        return Fitted(config, (not_estimated(size),))
    if "cached" in chosen and gpu is not None:
        cached = cached_that_fit(config, size, longest, USABLE_GPU * gpu)
        if not size.pictures_known:  # they are not in the estimate: the rest is left to them
            cached = min(cached, config.worker.rollout.max_cached_tokens)
        config = _with_cached(config, cached)
    if "tokens" not in chosen:
        return Fitted(config)
    if gpu is None:
        return Fitted(_with_tokens(config, tokens_that_fit(config, size, longest, USABLE * _host_memory())))
    tokens, reasons = _lowered(config, size, longest, gpu)
    return Fitted(config if tokens is None else _with_tokens(config, tokens), reasons)


def measured_peak(config: Config, prompts: PromptSet, peak: float) -> str:
    """A line on what a step of engine local took on a GPU, beside the estimate at the greatest lengths, and
    on the tokens of a forward that would fit.

    config: fitted. peak: bytes of tensors. Where it is above the estimate, all estimates are scaled up.
    """
    size, longest = _model_and_longest(config, prompts)
    gpu = gpu_memory() or 0.0
    took = f"memory: the step took {gib(peak)} of the GPU's {gib(gpu)} at its highest point"
    if size.text is None:
        return f"{took}; {not_estimated(size)}"
    estimated = estimate_local(config, size, longest, limits_at(config, size), cuda=True).peak
    fit = _largest_within(
        _budgets(config, longest, 4 * MOST),
        USABLE_GPU * gpu * min(1.0, estimated / peak),
        lambda tokens: _needs(config, size, longest, tokens),
    )
    would = "one rollout at a time at most" if fit is None else f"forwards of up to {fit:,} tokens"
    return (
        f"{took}, the estimate for prompts and answers at their longest is {gib(estimated)}"
        f"{'' if size.pictures_known else ' without pictures'}; {would} would fit "
        "(worker.actor.max_tokens_per_micro_batch)"
    )


def not_estimated(size: ModelSize) -> str:
    """Why nothing is chosen by the estimate, for a model whose widths are not known."""
    return f"memory is not estimated: {size.why}"


def _to_choose(config: Config) -> set[str]:
    """What no key says and this machine's memory can: "tokens" of a forward, "cached" tokens while sampling.

    EasyR1's own losses count rollouts, whatever is chosen here.
    """
    local, gpu = config.engine == "local", gpu_memory() is not None
    own = config.worker.actor.loss_type.startswith("easyr1/")
    tokens = (local or gpu) and not own and not any(key in config.written for key in SAYS_SO)
    cached = local and gpu and CACHED not in config.written
    return {name for name, wanted in (("tokens", tokens), ("cached", cached)) if wanted}


def _lowered(
    config: Config, size: ModelSize, longest: PromptLengths, gpu: float
) -> tuple[int | None, tuple[str, ...]]:
    """The tokens that a forward may have, and why; None where the GPU holds EasyR1's own micro-batches.

    The least is one row of the longest prompt and response.
    """
    if sharing_obstacle(size.config) is not None:
        return None, ()  # one rollout at a time
    memory, (without, with_backward) = USABLE_GPU * gpu, micro_batch_sizes(config)
    needed = _passes_peak(config, size, longest, limits_at(config, size))
    if needed <= memory:
        return None, ()
    row = _row(config, longest)
    budget = with_backward * (config.data.max_prompt_length + config.data.max_response_length)
    smaller = range(budget, row, -STEP)[::-1]
    tokens = _largest_within(smaller, memory, lambda tokens: _needs(config, size, longest, tokens)) or row
    line = (
        f"a forward holds up to {tokens:,} tokens: EasyR1's {without} rollouts at once without a backward "
        "and "
        f"{with_backward} with one would take {gib(needed)}, by the estimate, of the GPU's {gib(gpu)} less "
        f"{1 - USABLE_GPU:.0%} for the allocator; worker.actor.max_tokens_per_micro_batch says otherwise"
    )
    least = _needs(config, size, longest, tokens)
    too_much = f"one rollout alone takes {gib(least)}: it may not fit (gmpo-vl doctor says what to change)"
    return tokens, (line,) if least <= memory else (line, too_much)


def tokens_that_fit(config: Config, size: ModelSize, longest: PromptLengths, memory: float) -> int:
    """On a host: the most tokens, in steps of 1,024, with which all passes stay within `memory` bytes.

    At least one row of the longest prompt and response, which cannot be made smaller, at most MOST.
    """
    budgets = _budgets(config, longest, MOST)
    fit = _largest_within(budgets, memory, lambda tokens: _needs(config, size, longest, tokens))
    return _row(config, longest) if fit is None else fit


def cached_that_fit(config: Config, size: ModelSize, longest: PromptLengths, memory: float) -> int:
    """The most tokens whose keys and values a GPU holds in `memory` bytes beside what is held: those of whole
    groups of the longest rows, of one at least and of a step's prompts at most. A row's states count as the
    tokens that take as much."""
    group = config.worker.rollout.n * (_row(config, longest) + state_tokens(size.config))

    def peak(groups: int) -> float:
        return sampling_peak(_with_cached(config, groups * group), size, longest)

    groups = range(1, config.data.rollout_batch_size + 1)
    return (_largest_within(groups, memory, peak) or 1) * group


def _largest_within(numbers: Sequence[int], memory: float, needs: Callable[[int], float]) -> int | None:
    """The largest of the ascending numbers that needs no more than `memory` bytes; None where none does."""
    fit = bisect_right(numbers, memory, key=needs)
    return numbers[fit - 1] if fit else None


def _row(config: Config, longest: PromptLengths) -> int:
    return longest.tokens + config.data.max_response_length


def _budgets(config: Config, longest: PromptLengths, most: int) -> range:
    """Multiples of STEP that hold the longest row."""
    return range(-(-_row(config, longest) // STEP) * STEP, most + 1, STEP)


def _needs(config: Config, size: ModelSize, longest: PromptLengths, tokens: int) -> float:
    limits = Limits(max_tokens=tokens, share_prefix=_shares(config, size))
    return _passes_peak(config, size, longest, PassLimits(limits, limits))


def _passes_peak(config: Config, size: ModelSize, longest: PromptLengths, limits: PassLimits) -> float:
    """Bytes at the highest point of the log-prob and update passes."""
    if config.engine == "easyr1":
        found = estimate_easyr1(config, size, longest, limits, free=0.0)
    else:
        found = estimate_local(config, size, longest, limits, cuda=gpu_memory() is not None)
    return max(found.of_phase("log_probs"), found.of_phase("update"))


def limits_at(config: Config, size: ModelSize) -> PassLimits:
    """What the configuration lets a forward of this model hold."""
    way = first_way(size.config, config.worker.actor.share_prefix)
    return pass_limits(config, "shared" if _shares(config, size) else way)


def _shares(config: Config, size: ModelSize) -> bool:
    return config.worker.actor.share_prefix != "never" and sharing_obstacle(size.config) is None


def _with_tokens(config: Config, tokens: int) -> Config:
    actor = replace(config.worker.actor, max_tokens_per_micro_batch=tokens)
    return replace(config, worker=replace(config.worker, actor=actor))


def _with_cached(config: Config, tokens: int) -> Config:
    rollout = replace(config.worker.rollout, max_cached_tokens=tokens)
    return replace(config, worker=replace(config.worker, rollout=rollout))


def gpu_memory() -> float | None:
    """Bytes of the first GPU, free or not; None where there is none."""
    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _host_memory() -> float:
    import psutil  # not needed on a GPU

    return psutil.virtual_memory().total / 2
