"""The page: an entry a check, and a block to send back. As text for people (markdown), and as JSON."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from step_models import versions

from acceptance.runner import Outcome
from gmpo_vl.storage.files import write_text

PACKAGES = ("torch", "transformers", "flash-attn", "vllm", "ray", "peft", "numpy")


def surroundings() -> dict[str, Any]:
    """What was checked on what. The GPU is not touched."""
    found = versions(torch.device("cpu"))
    return {
        "processor": found["hardware"],
        "driver": _driver(),
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": found["commit"] or "unknown",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none found"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    return said[0] if said else "none found"


def entry_of(name: str, outcome: Outcome) -> str:
    """A check's line, and what else it said below, indented."""
    first, *more = outcome.said.splitlines() or [""]
    line = f"{outcome.verdict:7}  {name:30} {outcome.seconds:6.1f} s  {first}"
    return "\n".join([line, *(f"{'':11}{text}" for text in more)])


def ending_of(found: dict[str, Outcome], about: dict[str, Any]) -> str:
    """The verdict, and the block to send back."""
    counts = {v: sum(o.verdict == v for o in found.values()) for v in ("PASS", "FAIL", "SKIPPED")}
    minutes = sum(outcome.seconds for outcome in found.values()) / 60
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = [f"{'FAIL' if counts['FAIL'] else 'PASS'}: {told}, in {minutes:.1f} minutes", ""]
    lines += ["## Report this back", "", "```", *(f"{key}: {value}" for key, value in about.items())]
    for name, outcome in found.items():
        figures = " ".join(f"{key}={_short(value)}" for key, value in outcome.figures.items())
        why = " / ".join(outcome.said.splitlines()) if outcome.verdict != "PASS" or not figures else ""
        lines.append(f"{outcome.verdict} {name}: {' '.join(filter(None, (figures, why)))}")
    return "\n".join([*lines, "```", ""])


def page_of(title: str, found: dict[str, Outcome], ending: str) -> str:
    """The whole page."""
    entries = [entry_of(name, outcome) for name, outcome in found.items()]
    return "\n".join([f"# {title}", "", "```", *entries, "```", "", ending])


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_page(out: Path, page: str, found: dict[str, Outcome], about: dict[str, Any]) -> None:
    """OUT/accept.md and OUT/accept.json."""
    write_text(out / "accept.md", page)
    checks = {name: vars(outcome) for name, outcome in found.items()}
    write_text(out / "accept.json", json.dumps({"about": about, "checks": checks}, indent=2) + "\n")
