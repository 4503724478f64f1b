"""Answers that a policy writes as a JSON object: `{"answer": "B"}`, fenced as code or with LaTeX braces."""

from __future__ import annotations

import json
import re
from typing import Any

_OPENINGS = ("{", "\\{", "```")
_LONGEST = 4_000  # characters
_ANSWER_KEYS = frozenset(
    ("answer", "final answer", "short answer", "correct answer", "option", "correct option", "choice")
)
_TEXT_KEYS = frozenset(("text", "answer text", "option text", "content", "value"))
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_NO_ESCAPE = re.compile(r'\\(?!["\\/]|u[0-9a-fA-F]{4})')  # \frac, which is not \f and rac
_SINGLE_QUOTED = re.compile(r"\{\s*'([^'\"]+)'\s*:\s*'([^'\"]*)'\s*\}")


def answer_of_json(text: str) -> str | None:
    """The answer that an object states under one key such as `answer` or `final_answer`, with the text beside
    a letter (`C. 145°`); None for any other text, and for an object with no such key or several."""
    if not text.startswith(_OPENINGS) or len(text) > _LONGEST or ":" not in text:
        return None
    fenced = _FENCE.fullmatch(text)
    text = fenced[1] if fenced else text
    if text.startswith("\\{") and text.endswith("\\}"):
        text = f"{{{text[2:-2]}}}"
    fields = _fields(text)
    answers = [value for key, value in fields if key in _ANSWER_KEYS]
    texts = [value for key, value in fields if key in _TEXT_KEYS]
    if len(answers) != 1 or len(texts) > 1 or not answers[0]:
        return None
    return ". ".join(answers + texts)


def _fields(text: str) -> list[tuple[str, str]]:
    """(key in small letters, value as text) of each pair, also of keys that stand there twice; empty for what
    is no object."""
    if quoted := _SINGLE_QUOTED.fullmatch(text):
        return [(_key(quoted[1]), quoted[2])]
    try:
        found = json.loads(_NO_ESCAPE.sub(r"\\\\", text), strict=False, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return []
    pairs = found if isinstance(found, tuple) else ()  # an object; a list of them is a list
    return [(_key(key), _written(value)) for key, value in pairs]


def _key(key: str) -> str:
    return " ".join(key.lower().replace("_", " ").split())


def _written(value: Any) -> str:
    """A text or a number, or a list of some with commas; "" for anything else."""
    items = value if isinstance(value, list) else [value]
    parts = [str(item).strip() for item in items if isinstance(item, str | int | float)]
    sound = len(parts) == len(items) and all(parts) and not any(isinstance(item, bool) for item in items)
    return ", ".join(parts) if sound else ""
