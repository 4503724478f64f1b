"""What the doctor says: about what, how bad, where, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]
SIGNS: dict[Level, str] = {"ok": "ok", "note": "note", "warning": "WARN", "error": "ERROR"}


@dataclass(frozen=True)
class Finding:
    """level: `error` stops a run or ruins it, `warning` probably does, `note` is worth knowing, `ok` was looked at.

    check: what was looked at. where: key, file or row. change: what to do; for warnings and errors never empty.
    """

    level: Level
    check: str
    what: str
    where: str = ""
    change: str = ""


def lines_of(findings: Sequence[Finding]) -> list[str]:
    """For a terminal: a line per finding, its details below."""
    lines = []
    for f in findings:
        head, *rest = f.what.split("\n")
        lines.append(f"{SIGNS[f.level]:6}{f.check:11}{head}")
        lines += [" " * 17 + line for line in rest]
        lines += [f"{'':17}{label}: {text}" for label, text in (("where", f.where), ("do", f.change)) if text]
    counts = ", ".join(
        f"{sum(f.level == level for f in findings)} {level}" for level in ("error", "warning", "note")
    )
    return [*lines, counts]
