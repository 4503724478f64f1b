"""`gmpo-vl data check`: every row of a configuration's data, before a run meets it.

Writes OUT/check.json (figures and counts), OUT/rows.jsonl (a line per finding) and OUT/report.html.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gmpo_vl.data.writing import make_output_folder
from gmpo_vl.models.loading import model_config
from gmpo_vl.models.shared import KNOWN
from gmpo_vl.preflight.job import Job
from gmpo_vl.preflight.lengths import length_figures
from gmpo_vl.preflight.row_findings import LEVELS, Finding, level_of
from gmpo_vl.preflight.rows import RowChecker
from gmpo_vl.preflight.scan import scan
from gmpo_vl.preflight.survey import SplitSurvey, cross_findings
from gmpo_vl.sizing.cost import Rates, rates
from gmpo_vl.storage.files import to_line, write_json

SHOWN = 12  # findings of each reason that the page shows


@dataclass
class CheckResult:
    """What was found.

    shown: the first findings of each reason. errors: {split: rows with an error}. unwanted: {split: {row: reason}} of
    those, and of rows with a warning or note that a cleaned copy leaves out. Rows count through all tables of a split.
    """

    surveys: dict[str, SplitSurvey]
    checkers: dict[str, RowChecker]
    counts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[Finding]] = field(default_factory=dict)
    errors: dict[str, set[int]] = field(default_factory=dict)
    unwanted: dict[str, dict[int, str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, finding: Finding, drop: Collection[str]) -> None:
        self.counts[finding.reason] += 1
        if finding.level == "error":
            self.errors[finding.split].add(number)
        if finding.level == "error" or finding.reason in drop:
            self.unwanted[finding.split].setdefault(number, finding.reason)
        kept = self.shown.setdefault(finding.reason, [])
        if len(kept) < SHOWN:
            kept.append(finding)

    def of_level(self, level: str) -> int:
        return sum(count for reason, count in self.counts.items() if level_of(reason) == level)

    def ordered(self) -> list[tuple[str, int]]:
        """(reason, count), errors first, then by number."""
        return sorted(self.counts.items(), key=lambda kv: (LEVELS.index(level_of(kv[0])), -kv[1]))

    @property
    def num_rows(self) -> int:
        return sum(survey.rows for survey in self.surveys.values())


def check_data(
    job: Job,
    out: Path,
    workers: int,
    progress: Callable[[int], None] | None = None,
    drop: Collection[str] = (),
) -> CheckResult:
    """Look at every row and write the files; returns what was found. drop: reasons a cleaned copy leaves rows out for."""
    checkers = job.checkers()
    result = CheckResult({split: SplitSurvey(split) for split in checkers}, checkers)
    result.errors = {split: set() for split in checkers}
    result.unwanted = {split: {} for split in checkers}
    make_output_folder(out)
    start = time.perf_counter()
    with (out / "rows.jsonl").open("w", encoding="utf-8") as file:

        def tell(number: int, finding: Finding) -> None:
            result.add(number, finding, drop)
            file.write(to_line(asdict(finding)))

        for split, report in scan(job, checkers, workers, progress):
            result.surveys[split].add(report)
            for finding in report.findings:
                tell(report.row, finding)
        for number, finding in cross_findings(result.surveys, checkers):
            tell(number, finding)
    result.seconds = time.perf_counter() - start
    write_json(out / "check.json", figures(job, result))
    return result


def figures(job: Job, result: CheckResult) -> dict[str, Any]:
    """The machine-readable figures (docs/formats.md)."""
    of = _rates(job)
    processor = next((checker.processor for checker in result.checkers.values()), None)
    image = processor.image if processor is not None else None
    return {
        "sources": dict(job.sources),
        "model": job.model,
        "reward": job.reward,
        "rows": result.num_rows,
        "seconds": round(result.seconds, 2),
        "rows_per_second": round(result.num_rows / max(result.seconds, 1e-9), 1),
        "errors": result.of_level("error"),
        "warnings": result.of_level("warning"),
        "notes": result.of_level("note"),
        "reasons": {
            reason: {"level": level_of(reason), "count": count} for reason, count in result.ordered()
        },
        "splits": {
            split: {
                "rows": survey.rows,
                "rows_with_errors": len(result.errors[split]),
                "answer_types": dict(survey.gold_types.most_common()),
                "lengths": length_figures(survey, job.settings, image, of) if processor is not None else None,
            }
            for split, survey in result.surveys.items()
        },
    }


def _rates(job: Job) -> Rates | None:
    """What a token costs, of the models whose shapes sizing/cost.py knows."""
    if job.model is None:
        return None
    config = model_config(job.model)
    return rates(config) if config.model_type in KNOWN else None
