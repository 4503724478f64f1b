"""Batch arithmetic: what a step is made of, and what the engine cannot divide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gmpo_vl.config import Config
from gmpo_vl.preflight.findings import Finding


def check_batches(
    config: Config, num_prompts: int | None, refusals: Sequence[Finding] = ()
) -> Iterator[Finding]:
    """Rollouts, updates and steps in numbers; then what the engine says of the configuration (`refusals`).

    num_prompts: usable train rows; None where the data could not be read.
    """
    data, actor, n = config.data, config.worker.actor, config.worker.rollout.n
    steps = config.trainer.max_steps
    if steps is None and num_prompts is not None:
        steps = config.trainer.total_epochs * num_prompts // data.rollout_batch_size
    updates = actor.ppo_epochs * -(-data.rollout_batch_size // actor.global_batch_size)
    yield Finding(
        "ok",
        "batches",
        f"{'steps' if steps is None else f'{steps:,} steps'} of {data.rollout_batch_size:,} prompts x {n} = {data.rollout_batch_size * n:,} rollouts, "
        f"{updates:,} updates of {actor.global_batch_size * n:,} rollouts",
    )
    yield from refusals
    if num_prompts is None:
        return
    if steps == 0:
        yield Finding(
            "error",
            "batches",
            f"{num_prompts:,} prompts are less than one step's {data.rollout_batch_size:,}",
            "data.rollout_batch_size",
            "lower it, or set trainer.max_steps",
        )
    elif num_prompts < data.rollout_batch_size:
        yield Finding(
            "warning",
            "batches",
            f"a step of {data.rollout_batch_size:,} prompts takes some of the {num_prompts:,} more than once",
            "data.rollout_batch_size",
            "lower it, or bring more data",
        )
