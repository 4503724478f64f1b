"""What came of a study's runs, and the choice of each cell's learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gmpo_vl.report.curves import Metrics, points
from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.grid import Study, StudyRun, tuning_runs
from gmpo_vl.study.runner import exit_in_words

SMALLEST = 1.4e-45  # of float32: a ratio below it is written as 0
END = 5  # steps: "at the end" is the mean over the last so many


@dataclass(frozen=True)
class Quantity:
    """One number of a run: `how` of a metric's values over the steps, as a natural logarithm where `log`."""

    key: str
    title: str
    metric: str
    how: Literal["end", "last", "mean", "largest", "smallest"]
    log: bool = False

    def of(self, metrics: Metrics) -> float | None:
        """None where the run did not measure it, or once measured what was not finite."""
        values = [y for x, y in points(metrics, self.metric) if x > 0]
        if not values or any(row.get(self.metric, 0.0) is None for row in metrics):
            return None
        found = {
            "end": sum(values[-END:]) / len(values[-END:]),
            "last": values[-1],
            "mean": sum(values) / len(values),
            "largest": max(values),
            "smallest": min(values),
        }[self.how]
        return math.log(max(found, SMALLEST)) if self.log else found


QUANTITIES = (
    Quantity("entropy", f"Entropy, last {END} steps (nats)", "actor/entropy", "end"),
    Quantity("kl_to_start", "KL to the start, last (nats per token)", "actor/kl_to_start", "last"),
    Quantity("grad_norm", "Gradient norm, mean over steps", "actor/grad_norm", "mean"),
    Quantity("grad_norm_max", "Gradient norm, largest of the run", "actor/grad_norm_max", "largest"),
    Quantity("ln_ratio_max", "ln of the run's largest ratio", "actor/ratio_max", "largest", log=True),
    Quantity("ln_ratio_min", "ln of the run's smallest ratio", "actor/ratio_min", "smallest", log=True),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a run. `missing`: not run to its end yet. error: of a failed one. score: of a training."""

    run: StudyRun
    state: Literal["finished", "failed", "missing"]
    error: str | None
    metrics: Metrics
    score: float | None

    @property
    def numbers(self) -> dict[str, float]:
        """{quantity: value} of a finished run, `score` among them."""
        if self.score is None:
            return {}
        found = {quantity.key: quantity.of(self.metrics) for quantity in QUANTITIES}
        return {"score": self.score, **{key: value for key, value in found.items() if value is not None}}


def outcome_of(study: Study, folder: StudyFolder, run: StudyRun) -> Outcome:
    ending, metrics = folder.ending(run.name), folder.run(run.name).read_metrics()
    if ending is None:
        return Outcome(run, "missing", None, metrics, None)
    if ending["exit"] != 0:
        return Outcome(run, "failed", f"{exit_in_words(ending['exit'])}\n{ending['error']}", metrics, None)
    if run.phase == "test":
        return Outcome(run, "finished", None, metrics, None)
    validations = [y for x, y in points(metrics, study.metric) if x > 0]
    if len(validations) < study.last:
        counted = f"{len(validations)} trained values of {study.metric}, not {study.last}"
        error = f"it ended well, but metrics.jsonl has {counted}"
        return Outcome(run, "failed", error, metrics, None)
    return Outcome(run, "finished", None, metrics, sum(validations[-study.last :]) / study.last)


# --- the choice of rates ------------------------------------------------------------------------------------
def scores_by_rate(
    study: Study, outcomes: Sequence[Outcome], cell: tuple[str, str]
) -> dict[float, tuple[float | None, int]]:
    """{rate: (mean score over the tuning seeds, runs missing)} of a cell; no mean where runs are missing."""
    tried = [o for o in outcomes if o.run.phase == "tune" and o.run.cell == cell]
    found: dict[float, tuple[float | None, int]] = {}
    for rate in study.learning_rates:
        runs = [o.score for o in tried if o.run.learning_rate == rate]
        scores = [score for score in runs if score is not None]
        whole = len(scores) == len(study.tuning_seeds)
        found[rate] = sum(scores) / len(scores) if whole else None, len(runs) - len(scores)
    return found


def choose(study: Study, tuning: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The rate with the best mean validation score of each cell; of equals the smallest.

    A cell with a run that is not finished is left out: after a crash its method would have had fewer tries
    than the others. at_edge: the rate is the grid's smallest or largest, so a better one may lie outside.
    """
    chosen = []
    for cell in study.cells:
        means = {
            rate: mean for rate, (mean, _) in scores_by_rate(study, tuning, cell).items() if mean is not None
        }
        if len(means) < len(study.learning_rates):
            continue
        best = max(sorted(means), key=lambda rate: means[rate])
        at_edge = len(means) > 1 and best in (min(means), max(means))
        method, updates = cell
        chosen.append(
            {
                "method": method,
                "updates": updates,
                "learning_rate": best,
                "score": means[best],
                "at_edge": at_edge,
            }
        )
    return chosen


def freeze(study: Study, folder: StudyFolder) -> dict[tuple[str, str], float]:
    """Choose for the cells that can be and were not before, write them down, and return every cell's rate."""
    frozen = {(c["method"], c["updates"]): c for c in folder.chosen() or []}
    tuning = [outcome_of(study, folder, run) for run in tuning_runs(study)]
    new = {(c["method"], c["updates"]): c for c in choose(study, tuning)} | frozen
    if len(new) > len(frozen):
        folder.write_chosen([new[cell] for cell in study.cells if cell in new])
    return {cell: found["learning_rate"] for cell, found in new.items()}
