"""What the options of the built-in rewards can be. Every `compute_score` holds its own against it, so EasyR1,
which knows no other check, does it as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gmpo_vl.verify.workers import check_installed


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


_SHARE = (is_share, "a number between 0 and 1")
_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format_weight": _SHARE,
    "threshold": _SHARE,
    "attempt": (is_number, "a number"),
    "tolerance": (
        lambda value: value is None or (is_number(value) and 0 <= value < 1),
        "a number between 0 and 1 (0.01 is 1%)",
    ),
    "answer_in": (lambda value: value in ("box", "tag"), "box or tag"),
    "profile": (lambda value: value in ("strict", "paper"), "strict or paper"),
    "graded": _SWITCH,
    "rounded_golds": _SWITCH,
}


def check_values(reward: str, **options: Any) -> None:
    """ValueError for a value that an option of this name cannot have; options of other names may be
    anything. ModuleNotFoundError where `profile` asks for math-verify and it is not installed."""
    for name, value in options.items():
        fits, takes = _VALUES.get(name, (None, ""))
        if fits is not None and not fits(value):
            raise refusal(reward, name, value, takes)
    if options.get("profile") == "paper":
        check_installed()


def refusal(reward: str, name: str, value: Any, takes: str) -> ValueError:
    return ValueError(f"reward {reward}: {name} is {value!r:.80}; it is {takes}")
