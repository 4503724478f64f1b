"""Two suites of results as one self-contained page: before and after training, benchmark by benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import Estimate
from gmpo_vl.evaluation.suites import CONTROLS, Benchmark, ComparedSuites, Pictures, Stored
from gmpo_vl.report.page import render, short_path
from gmpo_vl.storage.files import write_text

LEVEL = 0.05
NAMED = 5  # questions that are named as won, and as lost
_OF_SEVERAL = {"pass@k": "one of {k} right", "maj@k": "most frequent of {k}", "all@k": "all {k} right"}


@dataclass(frozen=True)
class Counted:
    """A share that a benchmark counts, on both sides: (value, interval or None), or None where it is not."""

    name: str
    before: tuple[float, list[float] | None] | None
    after: tuple[float, list[float] | None] | None
    units: int | None = None

    @property
    def gain(self) -> float | None:
        return None if self.before is None or self.after is None else self.after[0] - self.before[0]


@dataclass(frozen=True)
class Row:
    """A benchmark as the page shows it. counted: what it counts as a whole; parts: by the values of columns.
    won, lost: (question, gain) of those that gained and lost most."""

    name: str
    questions: int
    before: float
    after: float
    difference: Estimate
    p: float
    p_holm: float
    better: int
    worse: int
    won: list[tuple[str, float]]
    lost: list[tuple[str, float]]
    counted: list[Counted]
    parts: list[Counted]
    needs: dict[str, tuple[Pictures, Pictures]]
    notes: tuple[str, ...]


def write_suite_page(path: Path, compared: ComparedSuites, grader: str = "overall") -> Path:
    """Write the page of a comparison that was made with `controls`; return its path."""
    rows = [row_of(benchmark, grader) for benchmark in compared.benchmarks]
    first = compared.benchmarks[0]
    missing = {
        side.missing: None
        for row in rows
        for sides in row.needs.values()
        for side in sides
        if side.compared is None
    }
    html = render(
        "suite.html.jinja",
        rows=rows,
        mean=compared.mean,
        before=float(np.mean([row.before for row in rows])),
        after=float(np.mean([row.after for row in rows])),
        found={True: _found(rows, True), False: _found(rows, False)},
        models=[_models(stored) for stored in (first.before, first.after)],
        seeds=(len(first.before), len(first.after)),
        refused=compared.refused,
        only=compared.only,
        judged=compared.judged,
        controls=CONTROLS,
        missing=list(missing),
        grader=grader,
        level=LEVEL,
    )
    write_text(path, html)
    return path


def row_of(benchmark: Benchmark, grader: str = "overall") -> Row:
    """grader: whose verdicts are compared."""
    found, gains_Q = benchmark.compared, benchmark.compared.gains_Q
    order = gains_Q.argsort(kind="stable")
    better, worse = int((gains_Q > 0).sum()), int((gains_Q < 0).sum())
    won, lost = order[::-1][: min(better, NAMED)], order[: min(worse, NAMED)]
    why_not = _why_not_counted(benchmark, grader)
    counted = [] if why_not else _counted(benchmark.before, benchmark.after, grader)
    return Row(
        benchmark.name,
        len(gains_Q),
        float(found.a_SQ.mean()),
        float(found.b_SQ.mean()),
        found.difference.estimate,
        found.difference.p_value,
        benchmark.p_holm,
        better,
        worse,
        [(found.questions[i], float(gains_Q[i])) for i in won],
        [(found.questions[i], float(gains_Q[i])) for i in lost],
        [one for one in counted if ": " not in one.name],
        [one for one in counted if ": " in one.name],
        benchmark.needs,
        (*found.notes, *([why_not] if why_not else [])),
    )


def _why_not_counted(benchmark: Benchmark, grader: str) -> str:
    """Why the figures of the results are not those of this comparison; empty where they are, or where there
    are none."""
    results = [stored.results for stored in (*benchmark.before, *benchmark.after)]
    if not any(_shares(one, "overall") for one in results):
        return ""
    left_out = "What the benchmark counts is left out: the results count"
    if any(one["questions"] != len(benchmark.compared.questions) for one in results):
        return f"{left_out} questions, too, that are not compared."
    if grader == "official" and all("official_aggregates" in one for one in results):
        return ""
    if grader != "overall" and any(one["settings"].get("grader") != grader for one in results):
        return f"{left_out} it by another grader than {grader}."
    return ""


def _found(rows: Sequence[Row], up: bool) -> int:
    """Benchmarks that rose, or fell, with a corrected p-value of at most LEVEL."""
    return sum(row.p_holm <= LEVEL and (row.difference.value > 0) == up for row in rows)


def _models(stored: Sequence[Stored]) -> str:
    paths = [short_path(one.results.get("model", {}).get("path", "an unknown model")) for one in stored]
    return ", ".join(dict.fromkeys(paths))


def _counted(before: Sequence[Stored], after: Sequence[Stored], grader: str) -> list[Counted]:
    """What results.json counts beside the mean over questions; of several training seeds their mean."""
    sides = [[_shares(one.results, grader) for one in side] for side in (before, after)]
    names = dict.fromkeys(name for side in sides for shares in side for name in shares)
    found = []
    for name in names:
        first, second = (_mean([shares.get(name) for shares in side]) for side in sides)
        units = next((s[name].get("units") for side in sides for s in side if name in s), None)
        found.append(Counted(name, first, second, units))
    return found


def _shares(results: dict[str, Any], grader: str) -> dict[str, dict[str, Any]]:
    if grader == "official":
        return results.get("official_aggregates", {})
    several = {
        said.format(k=k): share
        for key, said in _OF_SEVERAL.items()
        for k, share in results.get(key, {}).items()
        if k == str(results["n"])
    }
    categories = {f"category: {name}": share for name, share in results.get("categories", {}).items()}
    return several | results.get("aggregates", {}) | categories


def _mean(shares: Sequence[dict[str, Any] | None]) -> tuple[float, list[float] | None] | None:
    """With the interval of a single one: those of several training seeds say nothing about other seeds."""
    known = [share for share in shares if share is not None]
    if not known or len(known) < len(shares):
        return None
    return float(np.mean([s["value"] for s in known])), known[0]["ci95"] if len(known) == 1 else None
