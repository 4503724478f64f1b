"""One row of EasyR1's columns becomes an `Example`, or a named fault.

Reasons a row is refused for (the `reason` of a Fault; engines add theirs, such as `prompt_too_long`):
    unreadable_row    not a JSON object, or not decodable
    missing_column    the problem or answer is not there
    empty_problem, problem_type, problem_length
    empty_answer      (NaN too), answer_type, answer_length
    answer_form       JSON that no verifier reads
    image_tags        the number of `<image>` tags is not the number of images
    image_missing     an empty entry, no such file, a URL
    image_type        an entry that is no kind of image
    image_unreadable  it does not decode
    bad_text          bytes that are no UTF-8, or half of a surrogate pair: no tokenizer and no file takes it
    id_type, duplicate_id, number_length
"""

from __future__ import annotations

import difflib
import json
import math
import os
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from gmpo_vl.data.answers import check_encoded, encode_answer
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.storage.files import write_text
from gmpo_vl.types import Example, ImageSource

OnBadRow = Literal["error", "skip"]

# In characters, far above any model's context. Tokenizing tens of megabytes would stall a run.
MAX_PROBLEM_LENGTH = 1_000_000
MAX_ANSWER_LENGTH = 100_000
MAX_ID_LENGTH = 200
MAX_META_LENGTH = 200

GAME_COLUMN = "game"  # from which an environment makes the row's game

FAULTS_SHOWN = 5
Called = Callable[[str], str | None]


def config_key(setting: str) -> str | None:
    """What a setting of the data is called in a configuration: `data.image_key`."""
    return f"data.{setting}"


@dataclass(frozen=True)
class Columns:
    """Which columns hold what (`data.prompt_key`, `data.answer_key`, ...). `id_key` None: file and number
    name a row.

    Relative image paths start at `image_dir`, or at the working directory, as in EasyR1. `called`: what the
    user calls a setting, for messages; None for one that cannot be set.
    """

    prompt_key: str = "problem"
    answer_key: str = "answer"
    image_key: str = "images"
    image_dir: str | None = None
    id_key: str | None = "id"
    called: Called = config_key


class RowError(ValueError):
    """This row cannot be used: `reason` is a word for counting, the message a sentence for people."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class DataError(ValueError):
    """The data set cannot be read at all."""


class NoTable(DataError):
    """The file is sound and holds no rows: beside others in a folder it is left out."""


class BadRowsError(DataError):
    """Rows were refused and the policy is `error`, or none was left."""


@dataclass(frozen=True)
class Fault:
    """A refused row. `row` counts from 0 within `file`."""

    file: str
    row: int
    id: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} (id {self.id}): {self.reason}: {self.detail}"


class RowFaults(list[Fault]):
    """The rows that were refused while a data set was read, and since."""

    def counts(self) -> dict[str, int]:
        """Refused rows by reason, most frequent first."""
        return dict(Counter(fault.reason for fault in self).most_common())

    def summary(self, shown: int = FAULTS_SHOWN) -> str:
        """Counts by reason and the first few, for a person. Empty when there is nothing to say."""
        if not self:
            return ""
        counts = ", ".join(f"{reason} {count:,}" for reason, count in self.counts().items())
        number = "1 bad row" if len(self) == 1 else f"{len(self):,} bad rows"
        lines = [f"{number}: {counts}", *(f"  {fault}" for fault in self[:shown])]
        if len(self) > shown:
            lines.append(f"  and {len(self) - shown:,} more")
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """All of them, one JSON object a line."""
        write_text(Path(path), "".join(json.dumps(asdict(fault)) + "\n" for fault in self))

    def settle(self, on_bad_row: OnBadRow, num_good: int, called: Called = config_key) -> None:
        """Raise BadRowsError for a fault under the policy `error`, and for no good row under both."""
        if self and on_bad_row == "error":
            raise BadRowsError("\n".join([self.summary(), *self._advice(called)]))
        if num_good == 0:
            files = ", ".join(dict.fromkeys(fault.file for fault in self)) or "the data"
            raise BadRowsError(
                "\n".join([f"{files}: no usable row is left", self.summary(), *self._advice(called, True)])
            )

    def _advice(self, called: Called, none_left: bool = False) -> list[str]:
        """What to do. none_left: leaving rows out is no help."""
        reasons, advice = set(self.counts()), []
        if "prompt_too_long" in reasons:
            key = called("filter_overlong_prompts")
            leave = f", or set {key}=true to leave over-long prompts out" if key and not none_left else ""
            advice.append(
                f"Raise {called('max_prompt_length')}, lower {called('max_pixels')}{leave}."
                " `gmpo-vl data check` says what would fit."
            )
        if reasons - {"prompt_too_long"}:
            key = called("on_bad_row")
            leave = f", or set {key}=skip to leave them out" if key and not none_left else ""
            advice.append(f"Mend these rows{leave}.")
        return advice


def example_from_row(row: Mapping[str, Any], columns: Columns, default_id: str) -> Example:
    """Check one row and make it an Example; pictures stay encoded. Raises RowError."""
    for key in (columns.prompt_key, columns.answer_key):
        if key not in row:
            raise RowError(
                "missing_column", f"no column {key!r}; the row has {', '.join(map(repr, row)) or 'none'}"
            )
    problem = _problem(row[columns.prompt_key])
    images = _images(row.get(columns.image_key), columns)
    num_tags = problem.count(IMAGE_TAG)
    if num_tags != len(images):
        no_column = f" (the row has no column {columns.image_key!r}: {columns.called('image_key')})"
        hint = "" if columns.image_key in row else no_column
        raise RowError(
            "image_tags", f"{num_tags} {IMAGE_TAG} tags in the problem for {len(images)} images{hint}"
        )
    used = {columns.prompt_key, columns.answer_key, columns.image_key, columns.id_key}
    return Example(
        id=row_id(row, columns, default_id),
        problem=problem,
        answer=_answer(row[columns.answer_key]),
        images=images,
        meta={key: value for key, value in row.items() if key not in used and is_small_scalar(value)},
        game=game if isinstance(game := row.get(GAME_COLUMN), str) else "",
    )


def row_id(row: Mapping[str, Any], columns: Columns, default_id: str) -> str:
    """The row's id, or `default_id`. Raises RowError for an id that is no short text or number."""
    value = None if columns.id_key is None else row.get(columns.id_key)
    if value is None:
        return default_id
    text = _number_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ID_LENGTH:
        raise RowError(
            "id_type", f"the id {_shown(value)} is no text of 1 to {MAX_ID_LENGTH} characters, and no number"
        )
    _check_text(text, columns.id_key or "id")
    return text


def _problem(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise RowError("empty_problem", "the problem is missing")
    if not isinstance(value, str):
        raise RowError("problem_type", f"the problem is {_shown(value)}, not text")
    if len(value) > MAX_PROBLEM_LENGTH:
        raise RowError(
            "problem_length", f"the problem has {len(value):,} characters, more than {MAX_PROBLEM_LENGTH:,}"
        )
    if not value.replace(IMAGE_TAG, "").strip():
        raise RowError("empty_problem", "the problem has no text")
    _check_text(value, "problem")
    return value


def _answer(value: Any) -> str:
    """Text, stripped; numbers as text (142.0 -> 142). A list holds alternatives, any of which is right."""
    if isinstance(value, list | tuple):
        if any(isinstance(item, list | tuple) for item in value):
            raise RowError("answer_type", "the answer is a list of lists; a list holds alternatives as text")
        alternatives = [_answer(item) for item in value]
        if not alternatives:
            raise RowError("empty_answer", "the answer is an empty list")
        if len(alternatives) == 1:
            return alternatives[0]
        return encode_answer(alternatives)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise RowError("empty_answer", "the answer is missing (null or NaN)")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and math.isinf(value):
            raise RowError("answer_type", "the answer is an infinite number; write it as text")
        return _number_text(value)
    if not isinstance(value, str):
        raise RowError("answer_type", f"the answer is {_shown(value)}; write it as text")
    if not value.strip():
        raise RowError("empty_answer", "the answer is empty")
    if len(value) > MAX_ANSWER_LENGTH:
        raise RowError(
            "answer_length", f"the answer has {len(value):,} characters, more than {MAX_ANSWER_LENGTH:,}"
        )
    _check_text(value, "answer")
    try:
        check_encoded(value)
    except ValueError as error:
        raise RowError("answer_form", str(error)) from error
    return value.strip()


def _number_text(value: int | float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int) and value.bit_length() > 10_000:  # Python refuses to print such numbers
        raise RowError("number_length", "a number of thousands of digits; write it as text")
    return str(value)


def _images(value: Any, columns: Columns) -> tuple[ImageSource, ...]:
    if value is None or (isinstance(value, str) and not value):  # an empty cell, in a CSV
        return ()
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_image(item, columns, f"image {i} of {len(items)}") for i, item in enumerate(items, start=1))


def stored_picture(item: Any) -> Any:
    """What an entry holds: `datasets` stores a picture as {"bytes": ..., "path": ...}."""
    if not isinstance(item, Mapping):
        return item
    return item["bytes"] if item.get("bytes") is not None else item.get("path")


def _image(item: Any, columns: Columns, which: str) -> ImageSource:
    item = stored_picture(item)
    if isinstance(item, bytes | bytearray):
        if len(item) == 0:
            raise RowError("image_missing", f"{which} has no bytes")
        return bytes(item)
    if item is None or item == "":
        raise RowError("image_missing", f"{which} is empty: neither bytes nor a path")
    if not isinstance(item, str | os.PathLike):
        from PIL import Image  # the core reads tables without it

        if isinstance(item, Image.Image):
            return item
        raise RowError("image_type", f"{which} is {_shown(item)}, neither bytes, nor a path, nor a picture")
    path, image_dir = os.fspath(item), columns.image_dir
    if path.startswith(("http://", "https://")):
        raise RowError("image_missing", f"{which} is a URL ({path[:100]}); download it and give its path")
    path = os.path.join(image_dir, path) if image_dir is not None else path
    if "\0" in path or not os.path.isfile(path):
        unset = "" if image_dir is not None else f" ({columns.called('image_dir')} is not set)"
        start = "" if os.path.isabs(path) else f", relative to the working directory{unset}"
        raise RowError("image_missing", f"{which}: no file {path[:300]!r}{start}{_near(path)}")
    return path


def _near(path: str) -> str:
    """What is in a missing file's place, for its message."""
    folder, name = os.path.split(path)
    try:
        close = close_names(name, _listing(folder or os.curdir))
    except (OSError, ValueError):
        return f"; there is no folder {folder[:300]!r}"
    return f"; near it: {', '.join(map(repr, close))}" if close else ""


@lru_cache(maxsize=4)
def _listing(folder: str) -> list[str]:
    return sorted(os.listdir(folder))


def close_names(name: str, names: Sequence[str]) -> list[str]:
    """Up to three of the sorted names that are like this one. Looks at those around its place only."""
    place = bisect(names, name)
    return difflib.get_close_matches(name, names[max(0, place - 20) : place + 20])


def _check_text(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = (  # CSV is decoded so: one surrogate for each byte that is no UTF-8
            f"a byte (0x{code - 0xDC00:x}) that is no UTF-8; save the file as UTF-8"
            if 0xDC80 <= code <= 0xDCFF
            else "half of a surrogate pair"
        )
        raise RowError("bad_text", f"the {name} holds, at character {error.start}, {what}") from error


def is_small_scalar(value: Any) -> bool:
    """Whether a column's value can stand in an example's `meta`: a short line, a finite number."""
    if isinstance(value, str):
        return len(value) <= MAX_META_LENGTH and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and value.bit_length() < 64


def _shown(value: Any) -> str:
    short = isinstance(value, bool | float | str) or (isinstance(value, int) and value.bit_length() < 64)
    return f"of type {type(value).__name__}" + (f" ({repr(value)[:60]})" if short else "")
