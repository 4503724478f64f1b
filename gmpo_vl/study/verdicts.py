"""What a study's differences say, in words, by a rule that was declared before its first run.

    seen            the 95% interval lies on the expected side of 0
    opposite        it lies on the other side
    equivalent      the 90% interval lies inside +- the margin (two one-sided tests)
    inconclusive    none of these: what was measured allows a difference, and allows none

A difference can be seen (or opposite) and equivalent: it is there, and smaller than the margin. Where several
comparisons share a correction, "the interval" means the p-value after it, at most 0.05.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import (
    MeasuredDifference,
    crossed_difference,
    detectable,
    difference_over_seeds,
    holm,
)
from gmpo_vl.study.declaration import Study

LEVEL = 0.05
RULES = {
    "tuning": "The rate with the best mean validation score over the tuning seeds is chosen for each method "
    "and setting of updates, of equals the smallest, and frozen before a fresh seed is run.",
    "extend": "While the best rate of a method is its setting's smallest or largest, one rate more beyond "
    "that edge, at the ratio of the edge's two rates, is tried on all tuning seeds for all methods.",
    "primary": "Held-out difference: Student's t over a standard error that counts seeds and questions as "
    "drawn. seen or opposite: the 95% interval lies on that side of 0. equivalent: the 90% interval lies "
    "inside the margin. Else inconclusive. Each comparison by itself.",
    "exploratory": "Held-out difference: as of a primary study, but by p-values after Holm's correction over "
    "all comparisons, those of a difference and those of equivalence apart.",
    "expect": "Other quantities: Student's t over seeds; seen or opposite by p-values after Holm's "
    "correction over all expected quantities and comparisons.",
}


def rules_of(study: Study) -> dict[str, str]:
    """The rules that a study goes by, for its plan."""
    used = {"tuning": study.tuning_seeds, "extend": study.extend, "expect": set(study.expect) - {"test"}}
    return {key: rule for key, rule in RULES.items() if used.get(key) or key == study.kind}


def level_of(study: Study) -> float:
    """The level at which a single comparison must be found: of Holm's first step in an exploratory study."""
    compared = (len(study.methods) - 1) * len(study.updates)
    return LEVEL / compared if study.kind == "exploratory" else LEVEL


def detectable_before(study: Study) -> float | None:
    """The true difference that all fresh seeds find 4 times in 5, at the assumed deviation between seeds."""
    if study.assumed_deviation is None or len(study.methods) < 2:
        return None
    seeds = len(study.fresh_seeds)
    return detectable(study.assumed_deviation / seeds**0.5, seeds - 1, level_of(study))


def held_out_verdicts(
    study: Study, tested: Sequence[tuple[np.ndarray, np.ndarray] | None]
) -> list[dict[str, Any] | None]:
    """The verdict on each comparison, from held-out scores (seeds, questions) of baseline and method.

    None for a comparison without two seeds that both have; it counts in the corrections with p = 1.
    """
    found = [crossed_difference(*both) if both and len(both[0]) > 1 else None for both in tested]
    margin = study.margin or 0.0
    p_holm = holm([1.0 if d is None else d.p_value() for d in found])
    equal_holm = holm([1.0 if d is None else d.p_equivalence(margin) for d in found])
    return [d and _verdict(study, d, p, equal) for d, p, equal in zip(found, p_holm, equal_holm)]


def _verdict(study: Study, d: MeasuredDifference, p_holm: float, equal_holm: float) -> dict[str, Any]:
    p, equal = d.p_value(), d.p_equivalence(study.margin or 0.0)
    by, equal_by = (p, equal) if study.kind == "primary" else (p_holm, equal_holm)
    words = [in_a_word(d.value, by, study.expect.get("test", "higher"))]
    if equal_by <= LEVEL:
        words = [*(word for word in words if word != "inconclusive"), "equivalent"]
    (low, high), (low_90, high_90) = d.interval(1 - LEVEL), d.interval(1 - 2 * LEVEL)
    return {
        "verdict": words,
        "value": d.value,
        "low": low,
        "high": high,
        "low_90": low_90,
        "high_90": high_90,
        "standard_error": d.error,
        "p": p,
        "p_holm": p_holm,
        "p_equivalence": equal,
        "p_equivalence_holm": equal_holm,
        "detectable": d.detectable(level_of(study)),
    }


def quantity_verdicts(
    study: Study, differences: Sequence[Mapping[str, Any]]
) -> list[dict[str, dict[str, Any]]]:
    """{quantity: {expected, p, p_holm, verdict}} for each comparison, of those that `expect` names."""
    found: list[dict[str, dict[str, Any]]] = [{} for _ in differences]
    every = []
    for of, difference in zip(found, differences):
        for key in study.expect:
            estimate = difference["quantities"].get(key)
            if key != "test" and estimate and len(estimate["values"]) > 1:
                p = difference_over_seeds(np.array(estimate["values"])).p_value()
                of[key] = {"expected": study.expect[key], "p": p}
                every.append((of[key], estimate["value"]))
    for (row, value), p_holm in zip(every, holm([row["p"] for row, _ in every])):
        row |= {"p_holm": p_holm, "verdict": in_a_word(value, p_holm, row["expected"])}
    return found


def in_a_word(value: float, p: float, expected: str) -> str:
    """seen, opposite or inconclusive."""
    if p > LEVEL:
        return "inconclusive"
    return "seen" if (value > 0) == (expected == "higher") else "opposite"
