"""What the fresh seeds say: means and differences with intervals over seeds, as results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import mean_over_seeds, two_level_difference
from gmpo_vl.rollout.scoring import accuracy
from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.declaration import Study
from gmpo_vl.study.grid import StudyRun, fresh_runs, tuning_runs
from gmpo_vl.study.outcomes import Outcome, grids, outcome_of
from gmpo_vl.study.quantities import QUANTITIES
from gmpo_vl.study.verdicts import held_out_verdicts, quantity_verdicts

Tests = dict[tuple[str, str, int], np.ndarray]  # {(method, updates, seed): held-out score of every question}


def collect(study: Study, folder: StudyFolder) -> tuple[list[Outcome], Tests]:
    """Outcomes of all runs, and the held-out scores."""
    chosen = {(c["method"], c["updates"]): c["learning_rate"] for c in folder.chosen() or []}
    asked = fresh_runs(study, chosen, "test") if study.test_files else []
    runs = [*tuning_runs(study, grids(study, folder)), *fresh_runs(study, chosen), *asked]
    outcomes = [outcome_of(study, folder, run) for run in runs]
    tests = {
        (*o.run.cell, o.run.seed): _question_scores(study, folder, o.run)
        for o in outcomes
        if o.run.phase == "test" and o.state == "finished"
    }
    return outcomes, tests


def _question_scores(study: Study, folder: StudyFolder, run: StudyRun) -> np.ndarray:
    """float64 (questions,): the metric's part of the reward, mean over samples (of games over episodes), in
    the data's order. As in validation `accuracy` of a reward without that part is the whole score."""
    part = study.metric.removeprefix("val/")
    found: dict[str, list[float]] = {}
    answers = folder.run(run.name)
    (step,) = answers.rollout_steps("validation") or [0]
    for record in answers.read_rollouts(step, "validation"):
        if record.turn.get("number", 1) > 1:  # the score is the episode's, and every turn has it
            continue
        value = accuracy(record.reward) if part == "accuracy" else record.reward.get(part)
        if value is None:
            raise ValueError(f"{run.name}: the reward has no part {part}, only {', '.join(record.reward)}")
        found.setdefault(record.id, []).append(value)
    if not found:
        raise ValueError(f"{run.name} left no answers: remove its folder and run the study again")
    return np.array([np.mean(values) for values in found.values()])


def summarise(study: Study, folder: StudyFolder, outcomes: Sequence[Outcome], tests: Tests) -> dict[str, Any]:
    """results.json: all but curves. It has no times and paths: a study that was stopped gives the same."""
    runs, numbers = [], {}
    for o in outcomes:
        key, found = (*o.run.cell, o.run.seed), dict(o.numbers)
        if o.run.phase == "final":
            if key in tests:
                found["test"] = float(tests[key].mean())
            if o.score is not None:
                numbers[key] = found
        runs.append({**asdict(o.run), "state": o.state, "error": o.error, **found})
    fresh = _Fresh(study, numbers, tests)
    baseline, *others = study.methods
    compared = [(method, baseline, updates) for updates in study.updates for method in others]
    differences = [fresh.difference(*names) for names in compared]
    if study.kind and not any(o.state == "missing" for o in outcomes):
        add_verdicts(study, differences, [fresh.tested(*names) for names in compared])
    endings = [folder.ending(o.run.name) for o in outcomes]
    versions = [ending["versions"] for ending in endings if ending]
    return {
        "name": study.name,
        "plan": folder.plan() or {},
        "metric": study.metric,
        "chosen": folder.chosen() or [],
        "runs": runs,
        "cells": [fresh.cell(*cell) for cell in study.cells],
        "differences": differences,
        "versions": [found for i, found in enumerate(versions) if found not in versions[:i]],
    }


@dataclass(frozen=True)
class _Fresh:
    """{(method, updates, seed): {quantity: value}} of finished fresh runs, and the held-out scores."""

    study: Study
    numbers: Mapping[tuple[str, str, int], dict[str, float]]
    tests: Tests

    def cell(self, method: str, updates: str) -> dict[str, Any]:
        """Means over a cell's fresh seeds."""
        seeds = [seed for seed in self.study.fresh_seeds if (method, updates, seed) in self.numbers]
        rows = [self.numbers[method, updates, seed] for seed in seeds]
        return {"method": method, "updates": updates, "seeds": seeds, "quantities": _estimates(rows)}

    def difference(self, method: str, baseline: str, updates: str) -> dict[str, Any]:
        """method - baseline, seed by seed (same data order, same start), over the seeds that both have.

        test_two_level: the same of the held-out score, from a bootstrap over seeds and questions.
        """
        rows = []
        both = self._both(method, baseline, updates)
        for a, b in ([self.numbers[key] for key in keys] for keys in both.values()):
            rows.append({quantity: b[quantity] - a[quantity] for quantity in b if quantity in a})
        names = {"method": method, "minus": baseline, "updates": updates}
        found = {**names, "seeds": list(both), "quantities": _estimates(rows)}
        tested = self.tested(method, baseline, updates)
        if tested is not None:
            d = two_level_difference(*tested)
            found["test_two_level"] = {
                **asdict(d.estimate),
                "p_value": d.p_value,
                "seed_deviation": d.seed_deviation,
                "seeds_needed": d.seeds_needed,
            }
        return found

    def tested(self, method: str, baseline: str, updates: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Held-out scores (seeds, questions) of baseline and method, of the seeds that both have."""
        both = self._both(method, baseline, updates).values()
        whole = [keys for keys in both if all(key in self.tests for key in keys)]
        scores = [[self.tests[key] for key in keys] for keys in whole]
        if not scores:
            return None
        a_SQ, b_SQ = map(np.stack, zip(*scores))
        return a_SQ, b_SQ

    def _both(self, method: str, baseline: str, updates: str) -> dict[int, list[tuple[str, str, int]]]:
        """{seed: the keys of baseline and method} of the seeds that both have."""
        keys = {s: [(m, updates, s) for m in (baseline, method)] for s in self.study.fresh_seeds}
        return {s: both for s, both in keys.items() if all(key in self.numbers for key in both)}


def add_verdicts(
    study: Study,
    differences: Sequence[dict[str, Any]],
    tested: Sequence[tuple[np.ndarray, np.ndarray] | None],
) -> None:
    """Add `held_out` and `expected` to each difference of a study with verdicts."""
    for found, verdict, expected in zip(
        differences, held_out_verdicts(study, tested), quantity_verdicts(study, differences)
    ):
        found["held_out"], found["expected"] = verdict, expected


def _estimates(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """{quantity: {value, low, high, values}} of what every row has; low and high are None for one seed."""
    found = {}
    for key in ("score", "test", *(q.key for q in QUANTITIES)):
        values = [row[key] for row in rows if key in row]
        if not rows or len(values) < len(rows):
            continue
        estimate = {"value": values[0], "low": math.nan, "high": math.nan}
        if len(values) > 1:
            estimate = asdict(mean_over_seeds(np.array(values)))
        ends = {end: None if math.isnan(estimate[end]) else estimate[end] for end in ("low", "high")}
        found[key] = {**estimate, **ends, "values": values}
    return found
