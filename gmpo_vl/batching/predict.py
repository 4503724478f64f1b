"""What sharing pictures and prompts will save of a training step, from the data's lengths and the model's config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gmpo_vl.batching.cost import Cost, Rates, Shape, plain_cost, shared_cost, training_cost


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
    with_reference: bool,
    updates: int = 1,
    checkpointing: bool = False,
    frozen_vision: bool = False,
) -> list[PhaseGain]:
    """Generation, old log-probs, reference log-probs where there is KL, `updates` passes with backward, the whole step.

    scored, updated: the groups as the forwards of these passes cut them; a group in two parts runs its prompt twice.
    Operations, not seconds: decoding waits for memory, so it takes more of the time than of the operations. Writing a
    response token by token takes those of one forward over it. A frozen ViT is looked through in generation alone where
    prompts are shared, and in every pass of every rollout where they are not.
    """
    plain, sampled = _total(plain_cost, of, groups), _total(shared_cost, of, groups)
    without = {"vision": 0.0} if frozen_vision else {}
    score, update = (replace(_total(shared_cost, of, parts), **without) for parts in (scored, updated))
    phases = [
        PhaseGain("generation", plain.total, sampled.total),
        PhaseGain("old log-probs", plain.total, score.total),
    ]
    if with_reference:
        phases.append(PhaseGain("reference log-probs", plain.total, score.total))
    alone, together = (
        updates * training_cost(forward, checkpointing, frozen_vision).total for forward in (plain, update)
    )
    phases.append(PhaseGain("update", alone, together))
    whole = PhaseGain("whole step", sum(p.plain for p in phases), sum(p.shared for p in phases))
    return [*phases, whole]


def _total(cost: Callable[[Rates, Shape], Cost], of: Rates, groups: Sequence[Shape]) -> Cost:
    return sum((cost(of, shape) for shape in groups), Cost())
