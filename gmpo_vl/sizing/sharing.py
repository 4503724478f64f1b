"""What computing each picture and prompt once per group saves of a step, from lengths and widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gmpo_vl.batching.planning import Shape, micro_batches, rows_of, shapes_of
from gmpo_vl.config import Config
from gmpo_vl.setup import vision_is_frozen
from gmpo_vl.sizing.cost import Cost, Rates, plain_cost, shared_cost, training_cost
from gmpo_vl.sizing.estimate import PromptLengths, groups_of_lengths
from gmpo_vl.sizing.limits import PassLimits

PROMPTS = 256  # looked at: more change no figure that is shown


@dataclass(frozen=True)
class PhaseGain:
    """Operations of one phase of a step: every rollout alone, and pictures and prompts once per group."""

    phase: str
    plain: float
    shared: float

    @property
    def times_less(self) -> float:
        return self.plain / self.shared


@dataclass(frozen=True)
class StepPasses:
    """Which passes a step takes, and how.

    updates: passes with a backward. own_sampler: the model itself samples. vLLM has a ViT of its own and
    shares prompts whatever the trainer does.
    """

    with_old: bool = True
    with_reference: bool = False
    updates: int = 1
    checkpointing: bool = False
    frozen_vision: bool = False
    own_sampler: bool = True


def passes_of(config: Config) -> StepPasses:
    actor = config.worker.actor
    return StepPasses(
        with_old=actor.old_log_probs == "recompute",
        with_reference=not config.algorithm.disable_kl,
        updates=actor.ppo_epochs,
        checkpointing=actor.model.enable_gradient_checkpointing,
        frozen_vision=vision_is_frozen(config),
        own_sampler=config.engine == "local",
    )


def step_gain(
    of: Rates, passes: StepPasses, groups: Sequence[Shape], scored: Sequence[Shape], updated: Sequence[Shape]
) -> list[PhaseGain]:
    """Generation, old and reference log-probs where they are computed, the update, and last the whole step.

    scored, updated: the groups as the log-prob and update passes cut them; a group in two parts runs its
    prompt twice. Operations, not seconds: decoding waits for memory, so it takes more of the time than of the
    operations. Writing a response token by token takes the operations of one forward over it. Where prompts
    are shared, a frozen ViT sees a picture once a step, in the model's own first pass; where they are not, in
    every pass of every rollout.
    """
    plain, sampled = _sum(plain_cost, of, groups), _sum(shared_cost, of, groups)
    score, update = (_sum(shared_cost, of, parts) for parts in (scored, updated))
    phases = [PhaseGain("generation", (plain if passes.own_sampler else sampled).total, sampled.total)]
    looked = passes.own_sampler
    for name, asked in (("old log-probs", passes.with_old), ("reference log-probs", passes.with_reference)):
        if asked:
            seen = 0.0 if looked else sampled.vision  # of a group in two parts once, too
            shared = replace(score, vision=seen) if passes.frozen_vision else score
            phases.append(PhaseGain(name, plain.total, shared.total))
            looked = True
    if passes.frozen_vision:
        update = replace(update, vision=0.0 if looked else sampled.vision / passes.updates)
    alone, together = (
        passes.updates * training_cost(forward, passes.checkpointing, passes.frozen_vision).total
        for forward in (plain, update)
    )
    phases.append(PhaseGain("update", alone, together))
    whole = PhaseGain("whole step", sum(p.plain for p in phases), sum(p.shared for p in phases))
    return [*phases, whole]


def _sum(cost: Callable[[Rates, Shape], Cost], of: Rates, groups: Sequence[Shape]) -> Cost:
    return sum((cost(of, shape) for shape in groups), Cost())


def gain_table(config: Config, of: Rates, prompts: Sequence[PromptLengths], limits: PassLimits) -> list[str]:
    """Lines for a person: how many times fewer operations, phase by phase, with answers of a quarter, a half
    and all of the allowed length (how long they are is known only in the run).

    limits: they decide which groups are split.
    """
    allowed = config.data.max_response_length
    answers = [max(1, allowed // part) for part in (4, 2, 1)]
    columns = []
    for answer in answers:
        rows = rows_of(groups_of_lengths(prompts, answer, config.worker.rollout.n))
        scored, updated = (shapes_of(micro_batches(rows, limits)) for limits in (limits.score, limits.update))
        columns.append(step_gain(of, passes_of(config), shapes_of([rows]), scored, updated))
    lines = [f"{'answers of':20}" + "".join(f"{n:8,}" for n in answers) + " tokens"]
    for row in zip(*columns):
        gains = "".join(f"{gain.times_less:7.2f}x" for gain in row)
        lines.append(f"{row[0].phase:20}{gains} fewer operations")
    return lines
