"""`gmpo-vl data check`: every row of a configuration's data, before a run meets it.

Writes OUT/check.json (figures and counts), OUT/rows.jsonl (a line per finding) and OUT/report.html.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmpo_vl.data.writing import make_output_folder
from gmpo_vl.preflight.findings import (
    ADVICE,
    LEVELS,
    MEANING,
    OF_A_SPLIT,
    Finding,
    Level,
    level_of,
    row_finding,
    row_record,
)
from gmpo_vl.preflight.lengths import length_figures
from gmpo_vl.preflight.reward_check import pays_anything
from gmpo_vl.preflight.row_check import RowChecker
from gmpo_vl.preflight.row_scan import DataToCheck, scan, useful_workers
from gmpo_vl.preflight.survey import SplitSurvey, cross_findings
from gmpo_vl.progress import phase_bar
from gmpo_vl.report.page import render
from gmpo_vl.rewards.agreement import disagreement, rows_to_try
from gmpo_vl.sizing.cost import Rates
from gmpo_vl.sizing.parameters import model_size
from gmpo_vl.storage.files import naming, to_line, write_json, write_text
from gmpo_vl.types import Example

SHOWN = 12  # findings of each reason that the page shows


@dataclass
class CheckResult:
    """What was found.

    shown: the first findings of each reason. errors: {split: rows with an error}. unwanted: {split: {row:
    reason}} of those, and of rows with a warning or note that a cleaned copy leaves out. Rows count through
    all tables of a split. figures: the content of check.json (docs/formats.md).
    """

    surveys: dict[str, SplitSurvey]
    checkers: dict[str, RowChecker]
    counts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[Finding]] = field(default_factory=dict)
    errors: dict[str, set[int]] = field(default_factory=dict)
    unwanted: dict[str, dict[int, str]] = field(default_factory=dict)
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, split: str, number: int, finding: Finding, drop: Collection[str]) -> None:
        self.counts[finding.check] += 1
        if finding.check not in OF_A_SPLIT:
            if finding.level == "error":
                self.errors[split].add(number)
            if finding.level == "error" or finding.check in drop:
                self.unwanted[split].setdefault(number, finding.check)
        kept = self.shown.setdefault(finding.check, [])
        if len(kept) < SHOWN:
            kept.append(finding)

    def of_level(self, level: Level) -> int:
        return sum(count for reason, count in self.counts.items() if level_of(reason) == level)

    def ordered(self) -> list[tuple[str, int]]:
        """(reason, count), errors first, then by number."""
        return sorted(self.counts.items(), key=lambda kv: (LEVELS.index(level_of(kv[0])), -kv[1]))


def check_data(
    data: DataToCheck, out: Path, workers: int | None = None, drop: Collection[str] = ()
) -> CheckResult:
    """Look at every row and write the files. workers: processes; None: as many as are worth their start.

    drop: reasons a cleaned copy leaves rows out for.
    """
    checkers = data.checkers()
    try:
        return _checked(data, checkers, out, workers, drop)
    finally:
        for checker in checkers.values():
            checker.close()


def _checked(
    data: DataToCheck,
    checkers: dict[str, RowChecker],
    out: Path,
    workers: int | None,
    drop: Collection[str],
) -> CheckResult:
    result = CheckResult({split: SplitSurvey(split) for split in checkers}, checkers)
    result.errors = {split: set() for split in checkers}
    result.unwanted = {split: {} for split in checkers}
    total = sum(checker.num_rows for checker in checkers.values())
    if workers is None:
        workers = useful_workers(total, os.cpu_count() or 1)
    make_output_folder(out)
    start = time.perf_counter()
    lines = out / "rows.jsonl"
    with phase_bar("rows", total) as advance, naming(lines), lines.open("w", encoding="utf-8") as file:

        def tell(split: str, number: int, finding: Finding) -> None:
            result.add(split, number, finding, drop)
            file.write(to_line(row_record(finding)))

        of_splits: dict[str, dict[str, Finding]] = {split: {} for split in checkers}
        for split, report in scan(data, checkers, workers, advance):
            result.surveys[split].add(report)
            for finding in report.findings:
                if finding.check in OF_A_SPLIT:
                    of_splits[split].setdefault(finding.check, finding)
                else:
                    tell(split, report.number, finding)
        for split, checker in checkers.items():  # last: a reward that ends its process has ended a worker's
            of_splits[split] |= {finding.check: finding for finding in _about_reward(checker)}
            for finding in of_splits[split].values():
                tell(split, 0, finding)
        for split, number, finding in cross_findings(result.surveys, checkers):
            tell(split, number, finding)
    result.seconds = time.perf_counter() - start
    result.figures = _figures(data, result)
    write_json(out / "check.json", result.figures)
    return result


def _about_reward(checker: RowChecker) -> Iterator[Finding]:
    """What is wrong between a split's prompts and the reward, and whether a judge was asked."""
    reward = checker.golds.reward
    if reward is None or checker.num_rows == 0:
        return
    if checker.most_asked is not None:
        if checker.most_asked == 0:
            yield row_finding("judge_not_asked", f"{reward.name} asks an endpoint", checker.read(0)[0])
        return
    rows = [checker.read(i) for i in rows_to_try(checker.num_rows)]
    asked = [(place, example) for place, example in rows if isinstance(example, Example)]
    try:
        prompts = [(checker.prompt(example), example) for _, example in asked]
        if (paid := pays_anything(reward, prompts)) is not None:
            yield row_finding("reward_pays_anything", paid, asked[0][0])
        if checker.processor is None:  # without a model nobody knows the prompt
            return
        found = disagreement(prompts, reward)
    except Exception:  # of a user's reward, or a prompt that cannot be made: each row tells it
        return
    if found is not None:
        reason = "prompt_and_reward" if found.certain else "answer_place_unsaid"
        yield row_finding(reason, found.said, asked[0][0])


def _figures(data: DataToCheck, result: CheckResult) -> dict[str, Any]:
    of = _rates(data)
    processor = next((checker.processor for checker in result.checkers.values()), None)
    rows = sum(survey.rows for survey in result.surveys.values())
    return {
        "sources": dict(data.sources),
        "model": data.model,
        "reward": data.reward,
        "rows": rows,
        "seconds": round(result.seconds, 2),
        "rows_per_second": round(rows / max(result.seconds, 1e-9), 1),
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
                "lengths": length_figures(survey, data.settings, processor, of) if processor else None,
            }
            for split, survey in result.surveys.items()
        },
    }


def _rates(data: DataToCheck) -> Rates | None:
    """What a token and a picture cost; None where that is not known."""
    if data.model is None:
        return None
    size = model_size(data.model)
    return size.rates if size.pictures_known else None


def write_page(result: CheckResult, path: Path) -> None:
    """Write report.html: the verdict, what was found with its rows, lengths, answers."""
    reasons = [
        {
            "reason": reason,
            "level": level_of(reason),
            "count": count,
            "advice": ADVICE.get(reason, "see its lines"),
            "rows": [row_record(finding) for finding in result.shown[reason]],
        }
        for reason, count in result.ordered()
    ]
    write_text(path, render("check.html.jinja", said=result.figures, reasons=reasons, meaning=MEANING))


def summary(result: CheckResult) -> str:
    """The check as lines for a terminal."""
    lines, said = [], result.figures
    for split, figure in said["splits"].items():
        lengths = figure["lengths"]
        middle, limit = lengths["quantiles"], lengths["limit"]
        tokens = "no usable row"
        if middle:
            tokens = f"{middle['p50']:,} tokens in the middle, {middle['max']:,} at most"
        rows = f"{figure['rows']:,} rows, {figure['rows_with_errors']:,} with errors"
        lines.append(f"{split}: {rows}; {tokens} (limit {limit:,})")
        if lengths["pictures"] and lengths["without_picture"]:
            lines.append(f"  rows without a picture: {lengths['without_picture']:,}")
        if lengths["too_long"]:
            pixels = lengths["fitting_max_pixels"]
            fits = f"data.max_prompt_length={lengths['fitting_max_prompt_length']}"
            fits += f" or data.max_pixels={pixels}" if pixels else ""
            lines.append(f"  {lengths['too_long']:,} prompts too long: {fits} would let all of them in")
    for reason, count in result.ordered():
        first = result.shown[reason][0]
        lines.append(f"{first.level:8}{reason} {count:,}: {first.where}: {first.what[:160]}")
    speed = f"{said['seconds']:.1f} s, {said['rows_per_second']:.0f} rows a second"
    return "\n".join([*lines, f"{said['rows']:,} rows in {speed}"])
