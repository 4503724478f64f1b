"""Validation: samples on the validation split, scored by the run's reward."""

from __future__ import annotations

from collections import defaultdict

from gmpo_vl.config import ConfigError
from gmpo_vl.engines.answering import answered, asked_of, with_lost
from gmpo_vl.engines.collect import mean
from gmpo_vl.engines.session import Session
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.episodes import Outcome, episode_figures, say_won
from gmpo_vl.rollout.scoring import accuracy, mean_parts, to_records
from gmpo_vl.setup import validation_sampling_of
from gmpo_vl.types import Group

GAMES_AT_ONCE = 256  # rows; the prompts of all turns of their episodes are held until the last has ended


def run_validation(s: Session) -> dict[str, float]:
    """`val/*`: means over all samples, of a reward part over the samples that have it. Nothing without
    `val_files`. Of games a score is an episode's, and lengths are those of turns.

    `accuracy` of a reward without that part is the whole score. A game that never says `won` has none.

    With val_batch_size -1 all prompts are asked at once, and games are played `GAMES_AT_ONCE` rows at a time.
    The first groups go to the run's folder and the loggers. Seeds do not depend on the step: two validations
    differ by the model alone.
    """
    prompts = s.validation
    if prompts is None:
        return {}
    size = s.config.data.val_batch_size
    if size < 0:
        size = len(prompts) if s.games is None else GAMES_AT_ONCE
    sampling = validation_sampling_of(s.config)
    shown: list[Group] = []
    outcomes: list[Outcome] = []
    scores: list[dict[str, float]] = []
    values: dict[str, list[float]] = defaultdict(list)
    with s.engine.sampler(), phase_bar("validation", len(prompts)) as advance:
        for start in range(0, len(prompts), size):
            batch = asked_of(s.games, prompts, range(start, min(start + size, len(prompts))))
            played = answered(s, batch, [0] * len(batch), sampling, advance)
            outcomes += played.outcomes
            for group in played.groups:
                scores += group.scores
                for response in group.responses:
                    values["response_length"].append(len(response.ids_T))
                    values["truncated"].append(not response.finished)
            shown += played.groups[: max(0, s.config.trainer.val_generations_to_log - len(shown))]
    says_won = s.progress.says_won or say_won(outcomes)
    if s.games is None:
        scores = [score | {"accuracy": accuracy(score)} for score in scores]
    elif says_won:  # in an earlier block perhaps nobody had said it
        scores = [score | {"accuracy": score.get("accuracy", 0.0)} for score in scores]
        shown = list(map(with_lost, shown))
    records = to_records(shown, s.run.add_image)
    if records:
        s.run.write_rollouts(s.progress.step, records, "validation")
        for logger in s.loggers:
            logger.samples(s.progress.step, records, "validation")
    figures = mean_parts(scores) | {name: mean(found) for name, found in values.items()}
    figures |= episode_figures(outcomes, says_won)
    return {f"val/{name}": value for name, value in figures.items()}


def show_validation(s: Session) -> None:
    """`val_only`: the model's figures go to the loggers; the run's own curve stays as it is."""
    metrics = run_validation(s)
    if not metrics:
        raise ConfigError("trainer.val_only needs data.val_files")
    for logger in s.loggers:
        logger.metrics(s.progress.step, metrics)
