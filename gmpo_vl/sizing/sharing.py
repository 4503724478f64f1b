"""What sharing pictures and prompts will save of a training step, from the data's lengths and the model's config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gmpo_vl.batching.planning import Shape
from gmpo_vl.sizing.cost import Cost, Rates, plain_cost, shared_cost, training_cost


@dataclass(frozen=True)
class PhaseGain:
    """Operations of one phase of a step: every rollout alone, and pictures and prompts once per group."""

    phase: str
    plain: float
    shared: float

    @property
    def times_less(self) -> float:
        return self.plain / self.shared


def step_gain(
    of: Rates,
    groups: Sequence[Shape],
    scored: Sequence[Shape],
    updated: Sequence[Shape],
    with_old: bool = True,
    with_reference: bool = False,
    updates: int = 1,
    checkpointing: bool = False,
    frozen_vision: bool = False,
    own_sampler: bool = True,
) -> list[PhaseGain]:
    """Generation, old and reference log-probs where they are computed, `updates` passes with backward, the whole step.

    scored, updated: the groups as the forwards of these passes cut them; a group in two parts runs its prompt twice.
    Operations, not seconds: decoding waits for memory, so it takes more of the time than of the operations. Writing a
    response token by token takes those of one forward over it. A frozen ViT is looked through once a step where prompts
    are shared, in the first pass of the model itself, and in every pass of every rollout where they are not. own_sampler:
    the model itself samples; vLLM has a ViT of its own and shares prompts whatever the trainer does.
    """
    plain, sampled = _total(plain_cost, of, groups), _total(shared_cost, of, groups)
    score, update = (_total(shared_cost, of, parts) for parts in (scored, updated))
    phases = [PhaseGain("generation", (plain if own_sampler else sampled).total, sampled.total)]
    looked = own_sampler
    for name, asked in (("old log-probs", with_old), ("reference log-probs", with_reference)):
        if asked:
            seen = 0.0 if looked else sampled.vision  # of a group in two parts once, too
            phases.append(
                PhaseGain(name, plain.total, (replace(score, vision=seen) if frozen_vision else score).total)
            )
            looked = True
    if frozen_vision:
        update = replace(update, vision=0.0 if looked else sampled.vision / updates)
    alone, together = (
        updates * training_cost(forward, checkpointing, frozen_vision).total for forward in (plain, update)
    )
    phases.append(PhaseGain("update", alone, together))
    whole = PhaseGain("whole step", sum(p.plain for p in phases), sum(p.shared for p in phases))
    return [*phases, whole]


def _total(cost: Callable[[Rates, Shape], Cost], of: Rates, groups: Sequence[Shape]) -> Cost:
    return sum((cost(of, shape) for shape in groups), Cost())
