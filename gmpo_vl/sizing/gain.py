"""What computing each picture and prompt once per group will save of a run's steps, from lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

from gmpo_vl.batching.planning import Limits, micro_batches, rows_of, shapes_of
from gmpo_vl.config import Config
from gmpo_vl.setup import vision_is_frozen
from gmpo_vl.sizing.cost import Rates
from gmpo_vl.sizing.estimate import PromptLengths, groups_of_lengths
from gmpo_vl.sizing.sharing import PhaseGain, step_gain

PROMPTS = 256  # looked at: more change no figure that is shown


def gain_of_sharing(
    config: Config,
    of: Rates,
    prompts: Sequence[PromptLengths],
    answer: int,
    score_limits: Limits,
    update_limits: Limits,
) -> list[PhaseGain]:
    """Operations of each phase with all answers of `answer` tokens, and of the whole step, which comes last.

    The limits are what a forward of the log-prob and of the update passes may hold: they decide which groups are split.
    """
    actor = config.worker.actor
    rows = rows_of(groups_of_lengths(prompts, answer, config.worker.rollout.n))
    return step_gain(
        of,
        shapes_of([rows]),
        shapes_of(micro_batches(rows, score_limits)),
        shapes_of(micro_batches(rows, update_limits)),
        with_old=actor.old_log_probs == "recompute",
        with_reference=not config.algorithm.disable_kl,
        updates=actor.ppo_epochs,
        checkpointing=actor.model.enable_gradient_checkpointing,
        frozen_vision=vision_is_frozen(config),
        own_sampler=config.engine == "local",
    )


def gain_table(
    config: Config,
    of: Rates,
    prompts: Sequence[PromptLengths],
    score_limits: Limits,
    update_limits: Limits,
) -> list[str]:
    """Lines for a person: how many times fewer operations, phase by phase, with answers of a quarter, a half and all of
    the allowed length (how long they are is known only in the run)."""
    allowed = config.data.max_response_length
    answers = [max(1, allowed // part) for part in (4, 2, 1)]
    columns = [gain_of_sharing(config, of, prompts, n, score_limits, update_limits) for n in answers]
    lines = [f"{'answers of':20}" + "".join(f"{n:8,}" for n in answers) + " tokens"]
    for row in zip(*columns):
        gains = "".join(f"{gain.times_less:7.2f}x" for gain in row)
        lines.append(f"{row[0].phase:20}{gains} fewer operations")
    return lines
