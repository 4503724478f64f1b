"""A harness's own verdicts: numbers from 0 to 1, under names that say that an answer is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Where a metric that is an object has its verdict, the plainest first.
_KEYS = (
    *("true_false", "correct", "is_correct", "hit", "scores", "score", "exact_match", "accuracy", "acc"),
    "match",
)
NONE = "none"  # --official none
# Metrics and columns of which 1 is a right answer: those called so, and those that end so (mmmu_acc). Any
# other is taken by --official alone: 0 is a perfect error rate, a precision is no verdict on an answer.
_NAMES = frozenset(
    """aacc acc accuracy anls average correct em exact_match exact_matches hit is_correct match overall score
    true_false relaxed_overall relaxed_human_split relaxed_augmented_split seed_all seed_image
    seed_video""".split()
)
_ENDS = tuple(
    """_acc _accuracy _anls _correct _eval _exact_match _hit _match _acc_score _eval_score _overall_score
    _perception_score _cognition_score _realworld_score""".split()
)
_NO_VERDICT = re.compile(
    r"(?:^|_)(?:[wctm]er|mae|r?mse|errors?|rate|loss|ratio|norm|time|speed|length|count|f1|precision|recall"
    r"|format|iou|distance|refusal|failure)(?:_|$)"
)


class NoVerdict(ValueError):
    """A value that is a number, but none from 0 to 1."""


def verdicts(value: Any, n: int) -> tuple[float | None, ...]:
    """The verdict on each of a row's n responses; None for one that has none.

    One verdict for several responses is of none of them: some metrics judge the first, others take the mean.
    Raises NoVerdict for a number outside of 0 to 1.
    """
    value = _of_object(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == n:
        return tuple(map(_verdict, value))
    return (_verdict(value),) if n == 1 else (None,) * n


def is_called_a_verdict(name: str) -> bool:
    """Whether a metric or a column of that name says by 1 that an answer is right."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in _NAMES:
        return True
    return plain.endswith(_ENDS) and _NO_VERDICT.search(plain) is None


def _letters(metric: Mapping[str, Any]) -> list[bool] | bool | None:
    """MMMU of lmms-eval: the letters that were read, one a response (before 0.4 one), and the right one."""
    read, right = metric.get("parsed_pred"), metric.get("answer")
    if not _is_letter(right):
        return None  # of an open question officially by numbers and parts of the text
    if isinstance(read, list):
        return [letter == right for letter in read] if read and all(map(_is_letter, read)) else None
    return read == right if _is_letter(read) else None


def _is_letter(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[A-Z]", value) is not None


def _of_object(value: Any) -> Any:
    """What an object says of the verdict; another value itself."""
    if not isinstance(value, Mapping):
        return value
    found = next((value[key] for key in _KEYS if value.get(key) is not None), None)
    return _letters(value) if found is None else found


def _verdict(value: Any) -> float | None:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _KEYS if value.get(key) is not None), None)
    if isinstance(value, str):
        word = value.strip().lower().removeprefix("=").removesuffix("()")  # a cell may say =1 or =TRUE()
        value = {"true": 1.0, "false": 0.0}.get(word)
        if value is None:
            try:
                value = float(word)
            except ValueError:
                return None
    if not isinstance(value, bool | int | float) or value != value:
        return None
    if not 0 <= value <= 1:
        raise NoVerdict(f"{value!r:.40} is no verdict from 0 to 1")
    return float(value)


def official_key(rows: Sequence[Mapping[str, Any]], keys: Iterable[str], wanted: str | None) -> str | None:
    """Of the keys that are called verdicts the first that holds some in the rows, the first ones of a file;
    `wanted` instead where it is given. Raises ValueError where the file has no such key."""
    keys = list(keys)
    if wanted == NONE:
        return None
    if wanted is not None:
        if wanted not in keys:
            raise ValueError(f"--official {wanted}: the file has {', '.join(keys) or 'no metric'}")
        return wanted
    return next((key for key in keys if is_called_a_verdict(key) and _holds_verdicts(rows, key)), None)


def _holds_verdicts(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    try:
        values = (row[key] for row in rows if row.get(key) is not None)
        return any(verdict is not None for value in values for verdict in verdicts(value, _count(value)))
    except NoVerdict:
        return False


def _count(value: Any) -> int:
    """How many responses a metric's value speaks of."""
    value = _of_object(value)
    return len(value) if isinstance(value, list) else 1
