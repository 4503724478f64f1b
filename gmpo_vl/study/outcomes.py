"""What came of a study's runs, and the choice of each cell's learning rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gmpo_vl.report.curves import Metrics, by_kind, points
from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.grid import Grids, Study, StudyRun, first_grids, tuning_runs
from gmpo_vl.study.quantities import QUANTITIES
from gmpo_vl.study.runner import exit_in_words


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
        others = sorted({key for row in metrics for key in row if key.startswith("val/")})
        error = f"it ended well, but metrics.jsonl has {counted}; it has {', '.join(others) or 'no val/*'}"
        return Outcome(run, "failed", error, metrics, None)
    return Outcome(run, "finished", None, metrics, sum(validations[-study.last :]) / study.last)


def scores_are_shares(study: Study, outcomes: Sequence[Outcome]) -> bool:
    """Is the metric a share of right answers, which pages show in percent? Of a reward without the part
    `accuracy` it is the whole score, in the reward's unit.
    """
    return study.metric == "val/accuracy" and all(
        shares for o in outcomes for shares, _ in by_kind(o.metrics)
    )


# --- the choice of rates ------------------------------------------------------------------------------------
Cells = Mapping[tuple[str, str], Mapping[float, float]]  # {(method, updates): {rate: mean score}}


def scores_by_rate(
    study: Study, outcomes: Sequence[Outcome], cell: tuple[str, str]
) -> dict[float, tuple[float | None, int]]:
    """{rate: (mean score over the tuning seeds, runs missing)} of a cell; no mean where runs are missing."""
    tried: dict[float, list[float | None]] = {}
    for o in outcomes:
        if o.run.phase == "tune" and o.run.cell == cell:
            tried.setdefault(o.run.learning_rate, []).append(o.score)
    found: dict[float, tuple[float | None, int]] = {}
    for rate, runs in sorted(tried.items()):
        scores = [score for score in runs if score is not None]
        whole = len(scores) == len(study.tuning_seeds)
        found[rate] = sum(scores) / len(scores) if whole else None, len(runs) - len(scores)
    return found


def means_of(study: Study, outcomes: Sequence[Outcome]) -> Cells:
    """The mean scores of every cell of which no tuning run is missing.

    After a crash a method would have had fewer tries than the others.
    """
    found = {}
    for cell in study.cells:
        means = {rate: mean for rate, (mean, _) in scores_by_rate(study, outcomes, cell).items()}
        if means and None not in means.values():
            found[cell] = means
    return found


def best_rate(means: Mapping[float, float]) -> tuple[float, bool]:
    """(the rate with the best mean, of equals the smallest; whether it is the smallest or largest of all)."""
    best = max(sorted(means), key=lambda rate: means[rate])
    return best, len(means) > 1 and best in (min(means), max(means))


def grids(study: Study, folder: StudyFolder) -> Grids:
    """The rates of every setting of updates, as far as the runs say.

    Where the best rate of a method is at its grid's edge, all methods of that setting get one rate more
    beyond that edge, at most `study.extend` times. A setting in which a run is missing waits for it. This is
    a function of what the runs came to, so a study that was stopped goes through the same grids.
    """
    found = first_grids(study)
    for updates in study.updates:
        for _ in range(study.extend):
            runs = [run for run in tuning_runs(study, found) if run.updates == updates]
            means = means_of(study, [outcome_of(study, folder, run) for run in runs])
            more = beyond(found[updates], list(means.values())) if len(means) == len(study.methods) else ()
            if not more:
                break
            found[updates] = tuple(sorted((*found[updates], *more)))
    return found


def beyond(grid: Sequence[float], cells: Sequence[Mapping[float, float]]) -> tuple[float, ...]:
    """The next rates beyond the edges that are best for some cell, at the ratio of the edge's two rates."""
    edges = {best for best, at_edge in map(best_rate, cells) if at_edge}
    rates = sorted(grid)
    pairs = (rates[0], rates[1]), (rates[-1], rates[-2])
    return tuple(float(f"{edge * edge / inner:.6g}") for edge, inner in pairs if edge in edges)


def choose(study: Study, tuning: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The rate with the best mean validation score of each cell that has all its runs; without tuning seeds
    the only rate, with no score.

    at_edge: the rate is the grid's smallest or largest, so a better one may lie outside.
    """
    if not study.tuning_seeds:
        only = {"learning_rate": study.learning_rates[0], "score": None, "at_edge": False}
        return [{"method": method, "updates": updates, **only} for method, updates in study.cells]
    chosen = []
    for (method, updates), means in means_of(study, tuning).items():
        best, at_edge = best_rate(means)
        found = {"learning_rate": best, "score": means[best], "at_edge": at_edge}
        chosen.append({"method": method, "updates": updates, **found})
    return chosen


def freeze(study: Study, folder: StudyFolder) -> dict[tuple[str, str], float]:
    """Choose for the cells that can be and were not before, write them down, and return every cell's rate.

    With `extend` a setting's rates are chosen when all its methods had the same tries.
    """
    frozen = {(c["method"], c["updates"]): c for c in folder.chosen() or []}
    runs = tuning_runs(study, grids(study, folder))
    able = choose(study, [outcome_of(study, folder, run) for run in runs])
    if study.extend:
        whole = Counter(c["updates"] for c in able)
        able = [c for c in able if whole[c["updates"]] == len(study.methods)]
    new = {(c["method"], c["updates"]): c for c in able} | frozen
    if len(new) > len(frozen):
        folder.write_chosen([new[cell] for cell in study.cells if cell in new])
    return {cell: found["learning_rate"] for cell, found in new.items()}
