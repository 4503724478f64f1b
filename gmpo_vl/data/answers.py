"""The only writer of the `answer` column. `verify.parse_gold` is its only reader.

EasyR1 gives a reward nothing but the response and that column. So a gold's type, its tolerance and the texts
of its choices travel inside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Number, Real
from typing import Any

SETTINGS = ("type", "tolerance", "choices")
TYPES = ("choice", "text", "math", "rounded", "list", "countdown")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # of choices


class AnswerError(ValueError):
    """A gold is empty, or its type unknown. `problem` says so without the name of the function."""

    def __init__(self, problem: str):
        super().__init__(f"encode_answer: {problem}")
        self.problem = problem


def encode_answer(
    gold: str | float | Sequence[str | float],
    *,
    type: str | None = None,
    tolerance: float | None = None,
    choices: Sequence[str] | None = None,
) -> str:
    """Return the `answer` string for a gold.

    gold: the right answer, or several of which any one is right. Without further settings one string is
        written as it is; everything else becomes a JSON object string.
    type: what to read the gold as; None lets the verifier see. "choice" is a letter of `choices`, or several
        that are right together, as one text: "A, C". "text" is words, "math" anything but those two (the
        variable B). "rounded" is a decimal that stands for every value that rounds to it (Geometry3K's 9.2
        for 2\\sqrt{21}); without decimals it is exact. "list" says that the texts of `gold` are right
        together, in any order. "countdown" is a target, with the numbers to use as `choices`.
    tolerance: relative error that still counts as right (0.01 is 1%).
    choices: the texts of a multiple-choice question, in order (A, B, ...).
    """
    alternatives = (
        [gold] if isinstance(gold, str | bytes | int | float | Number | Mapping | None) else list(gold)
    )
    for one in alternatives:
        if not isinstance(one, str | Number | None):
            raise AnswerError(f"{one!r:.80} in the gold is no text and no number")
    texts = [written(g, type) for g in alternatives]
    if not texts or not all(texts):
        raise AnswerError(f"the gold {gold!r} is empty; a row without an answer cannot be verified")
    if type is not None and type not in TYPES:
        raise AnswerError(f"type={type!r} is unknown; it is one of {', '.join(TYPES)}")
    check_tolerance(tolerance, "encode_answer")
    settings = {"type": type, "tolerance": tolerance, "choices": list(choices) if choices else None}
    settings = {key: value for key, value in settings.items() if value is not None}
    if not settings and len(texts) == 1 and not texts[0].startswith("{"):
        return texts[0]
    return json.dumps({"gold": texts[0] if len(texts) == 1 else texts, **settings}, ensure_ascii=False)


def check_tolerance(tolerance: object, where: str) -> None:
    """ValueError unless `tolerance` is None or a number between 0 and 1; `where` begins the sentence."""
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
        raise ValueError(f"{where}: tolerance={tolerance!r} must be a number between 0 and 1 (0.01 is 1%)")


def encoded_fields(text: str) -> dict[str, Any] | None:
    """The fields of text that looks like `encode_answer`'s JSON object; None for other text, such as the set
    {1, 2}. Raises ValueError for an object of another form: what is wrong with it, without a subject.
    """
    if not (text.lstrip().startswith("{") and '"gold"' in text):
        return None
    try:
        fields: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"looks like encode_answer's JSON but is not valid: {str(error)[:200]}") from error
    known = ("gold", *SETTINGS)
    if unknown := sorted(fields.keys() - set(known)):
        raise ValueError(f"has unknown keys {unknown}; known: {', '.join(known)}")
    if "gold" not in fields:
        raise ValueError(f"has no key gold; known: {', '.join(known)}")
    golds = fields["gold"] if isinstance(fields["gold"], list) else [fields["gold"]]
    if not all(isinstance(g, str | int | float) and not isinstance(g, bool) for g in golds):
        raise ValueError("has a gold that is no text, number or list of them")
    if not isinstance(choices := fields.get("choices"), list | None):
        raise ValueError(f"has choices={choices!r:.80}; they are a list of texts")
    return fields


def check_encoded(text: str) -> None:
    """ValueError for text that looks like `encode_answer`'s but that no verifier can read."""
    try:
        fields = encoded_fields(text)
    except ValueError as error:
        raise ValueError(f"the answer {error}") from error
    if fields is not None:
        encode_answer(fields.pop("gold"), **fields)


def written(gold: object, type: str | None = None) -> str:
    """The text of a gold: a whole float without its decimals (AMC's 142.0 is 142), None and NaN as an empty
    text.

    Under type="rounded" 25.0 stays 25.0, because its decimals say how far the value was rounded. numpy's
    numbers are written as Python's.
    """
    if gold is None:
        return ""
    if isinstance(gold, Real) and not isinstance(gold, Integral):
        if gold != gold:
            return ""
        if type != "rounded" and abs(gold) != math.inf and gold == math.floor(gold):
            return str(math.floor(gold))
    return str(gold).strip()
