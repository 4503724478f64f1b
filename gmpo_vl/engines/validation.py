"""Validation: samples on the validation split, scored by the run's reward."""

from __future__ import annotations

from collections import defaultdict

from gmpo_vl.config import ConfigError
from gmpo_vl.engines.collect import mean
from gmpo_vl.engines.session import Session
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.scoring import accuracy, counted, score_groups, to_records
from gmpo_vl.setup import validation_sampling_of
from gmpo_vl.types import Group


def run_validation(s: Session) -> dict[str, float]:
    """`val/*`: means over all samples, of a reward part over the samples that have it. Nothing without
    `val_files`.

    The first groups go to the run's folder and the loggers. Seeds do not depend on the step: two validations
    differ by the model alone.
    """
    prompts = s.validation
    if prompts is None:
        return {}
    size = len(prompts) if s.config.data.val_batch_size < 0 else s.config.data.val_batch_size
    sampling = validation_sampling_of(s.config)
    shown: list[Group] = []
    values: dict[str, list[float]] = defaultdict(list)
    with s.engine.sampler(), phase_bar("validation", len(prompts)) as advance:
        for start in range(0, len(prompts), size):
            batch = prompts.encode(range(start, min(start + size, len(prompts))))
            groups = s.sample(batch, [0] * len(batch), sampling, advance)
            score_groups(groups, s.reward)
            for group in groups:
                for response, score in zip(group.responses, group.scores):
                    found = counted(score) | {
                        "response_length": len(response.ids_T),
                        "truncated": not response.finished,
                    }
                    if not score.get("unscored"):
                        found["accuracy"] = accuracy(score)
                    for name, value in found.items():
                        values[name].append(float(value))
            shown += groups[: max(0, s.config.trainer.val_generations_to_log - len(shown))]
    records = to_records(shown, s.run.add_image)
    if records:
        s.run.write_rollouts(s.progress.step, records, "validation")
        for logger in s.loggers:
            logger.samples(s.progress.step, records, "validation")
    return {f"val/{name}": mean(found) for name, found in values.items()}


def show_validation(s: Session) -> None:
    """`val_only`: the model's figures go to the loggers; the run's own curve stays as it is."""
    metrics = run_validation(s)
    if not metrics:
        raise ConfigError("trainer.val_only needs data.val_files")
    for logger in s.loggers:
        logger.metrics(s.progress.step, metrics)
