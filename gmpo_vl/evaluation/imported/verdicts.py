"""A harness's own verdicts: numbers from 0 to 1, wherever its metrics keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Where a metric that is an object has its verdict, the plainest first.
_KEYS = (
    *("true_false", "correct", "is_correct", "hit", "scores", "score", "exact_match", "accuracy", "acc"),
    "match",
)
NONE = "none"  # --official none


class NoVerdict(ValueError):
    """A value that is a number, but none from 0 to 1."""


def verdicts(value: Any, n: int) -> tuple[float | None, ...]:
    """The verdict on each of a row's n responses; None for one that has none.

    One verdict for several responses is of none of them: some metrics judge the first, others take the mean.
    Raises NoVerdict for a number outside of 0 to 1.
    """
    if isinstance(value, Mapping):
        found = next((value[key] for key in _KEYS if value.get(key) is not None), None)
        value = _letters(value) if found is None else found
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == n:
        return tuple(map(_verdict, value))
    return (_verdict(value),) if n == 1 else (None,) * n


def _letters(metric: Mapping[str, Any]) -> bool | None:
    """MMMU of lmms-eval: a letter that was read, and the right one."""
    read, right = metric.get("parsed_pred"), metric.get("answer")
    are_letters = all(isinstance(text, str) and len(text) == 1 for text in (read, right))
    return read == right if are_letters else None


def _verdict(value: Any) -> float | None:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _KEYS if value.get(key) is not None), None)
    if isinstance(value, str):
        word = value.strip().lower()
        value = {"true": 1.0, "false": 0.0}.get(word)
        if value is None:
            try:
                value = float(word)
            except ValueError:
                return None
    if not isinstance(value, bool | int | float) or value != value:
        return None
    if not 0 <= value <= 1:
        raise NoVerdict(f"{value:g} is no verdict from 0 to 1")
    return float(value)


def official_key(rows: Sequence[Mapping[str, Any]], keys: Iterable[str], wanted: str | None) -> str | None:
    """Of the keys the first that holds verdicts in the rows, the first ones of a file; `wanted` instead where
    it is given. Raises ValueError where the file has no such key."""
    keys = list(keys)
    if wanted == NONE:
        return None
    if wanted is not None:
        if wanted not in keys:
            raise ValueError(f"--official {wanted}: the file has {', '.join(keys) or 'no metric'}")
        return wanted
    return next((key for key in keys if _holds_verdicts(rows, key)), None)


def _holds_verdicts(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    try:
        values = (row[key] for row in rows if row.get(key) is not None)
        return any(verdict is not None for value in values for verdict in verdicts(value, _count(value)))
    except NoVerdict:
        return False


def _count(value: Any) -> int:
    """How many responses a metric's value speaks of."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in _KEYS if value.get(key) is not None), None)
    return len(value) if isinstance(value, list) else 1
