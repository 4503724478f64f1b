"""What the doctor says: about what, how bad, where, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]
INDENT = " " * 17
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


def lines_of(finding: Finding) -> list[str]:
    """For a terminal: what was found, and below it where and what to do."""
    first, *rest = finding.what.split("\n")
    lines = [f"{SIGNS[finding.level]:6}{finding.check:11}{first}", *(INDENT + line for line in rest)]
    details = (("where", finding.where), ("do", finding.change))
    return lines + [f"{INDENT}{label}: {text}" for label, text in details if text]


def count_line(findings: Sequence[Finding]) -> str:
    levels: tuple[Level, ...] = ("error", "warning", "note")
    return ", ".join(f"{sum(f.level == level for f in findings)} {level}" for level in levels)
