"""The check as a page for people."""

from __future__ import annotations

from pathlib import Path

from gmpo_vl.preflight.data_check import CheckResult, figures
from gmpo_vl.preflight.job import Job
from gmpo_vl.preflight.row_findings import ADVICE, MEANING, level_of
from gmpo_vl.report.page import render
from gmpo_vl.storage.files import write_text


def write_page(job: Job, result: CheckResult, path: Path) -> None:
    """Write report.html: the verdict, what was found with its rows, lengths, answers."""
    said = figures(job, result)
    reasons = [
        {
            "reason": reason,
            "level": level_of(reason),
            "count": count,
            "advice": ADVICE.get(reason, "see its lines"),
            "rows": result.shown[reason],
        }
        for reason, count in result.ordered()
    ]
    write_text(path, render("check.html.jinja", said=said, reasons=reasons, meaning=MEANING))


def summary(result: CheckResult, said: dict) -> str:
    """The check as lines for a terminal."""
    lines = []
    for split, figure in said["splits"].items():
        lengths = figure["lengths"]
        middle = lengths["quantiles"]
        tokens = (
            f"{middle['p50']:,} tokens in the middle, {middle['max']:,} at most"
            if middle
            else "no usable row"
        )
        lines.append(
            f"{split}: {figure['rows']:,} rows, {figure['rows_with_errors']:,} with errors; {tokens} (limit {lengths['limit']:,})"
        )
        if lengths["pictures"] and lengths["without_picture"]:
            lines.append(f"  rows without a picture: {lengths['without_picture']:,}")
        if lengths["too_long"]:
            fits = lengths["fitting_max_pixels"]
            lines.append(
                f"  {lengths['too_long']:,} prompts too long: data.max_prompt_length={lengths['fitting_max_prompt_length']}"
                f"{f' or data.max_pixels={fits}' if fits else ''} would let all of them in"
            )
    for reason, count in result.ordered():
        first = result.shown[reason][0]
        lines.append(
            f"{level_of(reason):8}{reason} {count:,}: {first.file}, row {first.row} (id {first.id}): {first.detail[:160]}"
        )
    lines.append(
        f"{said['rows']:,} rows in {said['seconds']:.1f} s, {said['rows_per_second']:.0f} rows a second"
    )
    return "\n".join(lines)
