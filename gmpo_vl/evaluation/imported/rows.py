"""What another harness's file says of a question: one form for all harnesses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gmpo_vl.data.answers import LETTERS, encode_answer, written
from gmpo_vl.data.letters import lettered_text
from gmpo_vl.data.options import Options, readings
from gmpo_vl.data.rows import RowError, is_small_scalar
from gmpo_vl.data.values import is_empty, texts_in

ERROR_TEXTS = (
    "Failed to obtain answer",
    "[FAILED]",
    "Error:",
)  # what harnesses write where a model was silent


@dataclass(frozen=True)
class ImportedRow:
    """A question and its answers.

    key: what the harness calls the row (doc_id, index). name: its id here, where our export says it. gold: as
    the answer column of our data has it; empty where the file has none. official: the harness's verdict on
    each response, from 0 to 1; None for none. lengths: tokens of each response; 0 where they are not stated.
    cut: the cell was full, so the response may go on. doc_hash: lmms-eval's hash of its row.
    """

    key: str
    question: str
    gold: str
    responses: tuple[str, ...]
    official: tuple[float | None, ...]
    lengths: tuple[int, ...]
    cut: bool = False
    doc_hash: str = ""
    name: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """A harness's file: `harness` its name, `facts` what it states of task, model and sampling, `official`
    the key whose values are its verdicts (None: it has none), `by_place` whether a key is the row's number in
    the data (else the row's id)."""

    harness: str
    facts: dict[str, Any]
    official: str | None
    by_place: bool

    def __iter__(self) -> Iterator[ImportedRow | RowError]: ...


def gold_of(answer: Any, options: Sequence[str]) -> str:
    """The `answer` column for a harness's answer, with its options where it names one of them by letter or by
    text. Empty where there is no answer. Raises RowError for what is none."""
    if is_empty(answer):
        return ""
    if options:
        found = readings(answer, Options(list(options), []))
        places = found.get("letter") or found.get("text")
        if places:
            letters = ", ".join(LETTERS[place] for place in sorted(places))
            return encode_answer(letters, type="choice", choices=list(options))
    try:
        if isinstance(answer, str) and answer.strip().lower() in ("yes", "no"):
            return encode_answer(answer, type="text")  # also answered with a reason: Yes, it is.
        return answer if isinstance(answer, str) else encode_answer(answer)
    except ValueError as error:
        raise RowError("gold", str(error)) from error


def options_in(value: Any) -> list[str]:
    """The texts of a column of options: a list, or the text of one; none of anything else."""
    listed = texts_in(value.strip()) if isinstance(value, str) else value
    if isinstance(listed, list | tuple) and all(isinstance(item, str | int | float) for item in listed):
        return [written(item) for item in listed] if len(listed) <= len(LETTERS) else []
    return []


_MOST_SHOWN = 20_000  # characters of a question in which options are looked for


def options_shown(question: str) -> list[str]:
    """The options that stand in a question as A., B., ...; none where they cannot be told apart."""
    try:
        found = lettered_text(question[:_MOST_SHOWN])
    except ValueError:
        return []
    return found[1] if found and found[0] == list(LETTERS[: len(found[0])]) else []


def small(values: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """The short values, for `meta`."""
    return {key: value for key, value in values.items() if key not in without and is_small_scalar(value)}


_SECRET = re.compile(r"(\w*(?:key|token|secret|password)\w*\s*[=:]\s*)[^,\s]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Arguments of a model without the values of keys and tokens."""
    return _SECRET.sub(r"\1...", text)
