"""What the fresh seeds say: means and differences with intervals over seeds, as results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import Difference, Estimate, mean_over_seeds, two_level_difference
from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.file import Study
from gmpo_vl.study.outcomes import QUANTITIES, Outcome, outcome_of
from gmpo_vl.study.plan import StudyRun, fresh_runs, tuning_runs


def collect(
    study: Study, folder: StudyFolder
) -> tuple[list[Outcome], dict[tuple[str, str, int], np.ndarray]]:
    """Outcomes of all runs, and the held-out score of every question by (method, updates, seed)."""
    chosen = {(c["method"], c["updates"]): c["learning_rate"] for c in folder.chosen() or []}
    asked = fresh_runs(study, chosen, "test") if study.test_files else []
    runs = [*tuning_runs(study), *fresh_runs(study, chosen), *asked]
    outcomes = [outcome_of(study, folder, run) for run in runs]
    tests = {
        (*o.run.cell, o.run.seed): _question_scores(study, folder, o.run)
        for o in outcomes
        if o.run.phase == "test" and o.state == "finished"
    }
    return outcomes, tests


def _question_scores(study: Study, folder: StudyFolder, run: StudyRun) -> np.ndarray:
    """float64 (questions,): mean over a question's samples of the metric's part of the reward, in the data's order."""
    part = study.metric.removeprefix("val/")
    found: dict[str, list[float]] = {}
    answers = folder.run(run.name)
    (step,) = answers.rollout_steps("validation") or [0]
    for record in answers.read_rollouts(step, "validation"):
        value = record.reward.get(part, float(record.correct) if part == "accuracy" else None)
        if value is None:
            raise ValueError(f"{run.name}: the reward has no part {part}, only {', '.join(record.reward)}")
        found.setdefault(record.id, []).append(value)
    if not found:
        raise ValueError(f"{run.name} left no answers: remove its folder and run the study again")
    return np.array([np.mean(values) for values in found.values()])


def summarise(
    study: Study,
    folder: StudyFolder,
    outcomes: Sequence[Outcome],
    tests: Mapping[tuple[str, str, int], np.ndarray],
) -> dict[str, Any]:
    """results.json: everything but curves. It holds no times and no paths, so it is the same however often a study was
    stopped."""
    numbers = {
        (*o.run.cell, o.run.seed): o.numbers
        for o in outcomes
        if o.run.phase == "final" and o.score is not None
    }
    for key, values in tests.items():
        if key in numbers:
            numbers[key]["test"] = float(values.mean())
    baseline, *others = study.methods
    differences = [_difference(study, numbers, tests, m, baseline, u) for u in study.updates for m in others]
    versions = [folder.ending(o.run.name) or {} for o in outcomes]
    plan = folder.plan() or {}
    return {
        "name": study.name,
        "plan": plan,
        "metric": study.metric,
        "chosen": folder.chosen() or [],
        "runs": [_run_row(o, tests) for o in outcomes],
        "cells": [_cell(study, numbers, *cell) for cell in study.cells],
        "differences": differences,
        "versions": _distinct([ending["versions"] for ending in versions if ending]),
    }


def _run_row(outcome: Outcome, tests: Mapping[tuple[str, str, int], np.ndarray]) -> dict[str, Any]:
    run, numbers = outcome.run, dict(outcome.numbers)
    test = tests.get((*run.cell, run.seed)) if run.phase == "final" else None
    if test is not None:
        numbers["test"] = float(test.mean())
    return {**asdict(run), "state": outcome.state, "error": outcome.error, **numbers}


def _cell(
    study: Study, numbers: Mapping[tuple, dict[str, float]], method: str, updates: str
) -> dict[str, Any]:
    """Means over a cell's fresh seeds, and their intervals where there are at least two."""
    seeds = [seed for seed in study.fresh_seeds if (method, updates, seed) in numbers]
    rows = [numbers[method, updates, seed] for seed in seeds]
    return {"method": method, "updates": updates, "seeds": seeds, "quantities": _estimates(rows)}


def _difference(
    study: Study,
    numbers: Mapping[tuple, dict[str, float]],
    tests: Mapping[tuple[str, str, int], np.ndarray],
    method: str,
    baseline: str,
    updates: str,
) -> dict[str, Any]:
    """method - baseline, seed by seed (same data order, same start), over the seeds that both have.

    test_two_level: the same of the held-out score, from a bootstrap over seeds and questions.
    """
    seeds = [s for s in study.fresh_seeds if all((m, updates, s) in numbers for m in (method, baseline))]
    rows = []
    for seed in seeds:
        a, b = (numbers[m, updates, seed] for m in (baseline, method))
        rows.append({key: b[key] - a[key] for key in b if key in a})
    found = {
        "method": method,
        "minus": baseline,
        "updates": updates,
        "seeds": seeds,
        "quantities": _estimates(rows),
    }
    both = [s for s in seeds if all((m, updates, s) in tests for m in (method, baseline))]
    if both:
        a_SQ, b_SQ = (np.stack([tests[m, updates, s] for s in both]) for m in (baseline, method))
        found["test_two_level"] = _two_level(two_level_difference(a_SQ, b_SQ))
    return found


def _estimates(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """{quantity: {value, low, high, values}}; low and high are null for one seed."""
    keys = [
        key for key in ("score", "test", *(q.key for q in QUANTITIES)) if rows and all(key in r for r in rows)
    ]
    found = {}
    for key in keys:
        values = [row[key] for row in rows]
        estimate = (
            mean_over_seeds(np.array(values)) if len(values) > 1 else Estimate(values[0], math.nan, math.nan)
        )
        low, high = (None if math.isnan(v) else v for v in (estimate.low, estimate.high))
        found[key] = {"value": estimate.value, "low": low, "high": high, "values": values}
    return found


def _two_level(difference: Difference) -> dict[str, Any]:
    estimate = difference.estimate
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p_value": difference.p_value,
        "seed_deviation": difference.seed_deviation,
        "seeds_needed": difference.seeds_needed,
    }


def _distinct(values: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [value for i, value in enumerate(values) if value not in values[:i]]
