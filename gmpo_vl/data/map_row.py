"""One row of a data set becomes EasyR1's columns, as a mapping file says; or a RowError."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from gmpo_vl.data.answers import LETTERS, AnswerError, encode_answer
from gmpo_vl.data.mapping import MappingFile, is_kept, value_of
from gmpo_vl.data.rows import RowError, stored_picture
from gmpo_vl.data.templates import IMAGE_TAG

# How the common formats begin: PNG, JPEG, GIF, BMP, WebP (RIFF), TIFF.
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


def map_row(row: Mapping[str, Any], mapping: MappingFile) -> dict[str, Any] | None:
    """{problem, answer, images, id?, carried columns}; None for a row that `keep` leaves out. Raises
    RowError.

    images: bytes and paths. What the values hold is checked afterwards, as in every data set
    (`rows.example_from_row`).
    """
    if not is_kept(row, mapping.keep):
        return None
    images = _images(row, mapping)
    choices = _choices(row, mapping)
    problem = value_of(row, mapping.problem, "problem")
    if isinstance(problem, str):
        problem = _with_choices(problem.strip(), choices, mapping)
        if mapping.image_marks is not None:
            problem = _place_marks(problem, len(images), mapping)
        elif IMAGE_TAG not in problem:
            problem = IMAGE_TAG * len(images) + problem
    mapped = {
        "problem": problem,
        "answer": _answer(value_of(row, mapping.answer, "answer"), choices, mapping),
        "images": images,
    }
    if mapping.id is not None:
        mapped["id"] = value_of(row, mapping.id, "id")
    return mapped | {name: value_of(row, name, "carry") for name in mapping.carry or ()}


def _choices(row: Mapping[str, Any], mapping: MappingFile) -> list[str]:
    """The choices of the row, empty where it has none. In a list of columns only the last ones may be empty:
    an empty one before a filled one would give the later choices other letters than the gold means."""
    if mapping.choices is None:
        return []
    if isinstance(mapping.choices, list):
        values = [value_of(row, name, "choices") for name in mapping.choices]
        while values and _is_blank(values[-1]):
            values.pop()
        if gaps := [name for name, value in zip(mapping.choices, values) if _is_blank(value)]:
            raise RowError("choices", f"the choice {', '.join(gaps)} is empty, and a later one is not")
        return [str(value) for value in values]
    value = value_of(row, mapping.choices, "choices")
    if isinstance(value, str):
        value = _read_list(value)
    if not isinstance(value, Sequence | None):
        raise RowError("choices", f"the choices are of type {type(value).__name__}, not a list")
    return [str(choice) for choice in value or ()]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _read_list(text: str) -> Any:
    """A list that was written as text, in JSON or as Python prints it."""
    if not text.strip():
        return []
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list | tuple):
            return value
    raise RowError("choices", f"the choices {text[:80]!r} are no list")


def _with_choices(problem: str, choices: list[str], mapping: MappingFile) -> str:
    """The problem with its choices below it. CountDown's numbers are in the problem already."""
    if not choices or mapping.choices_written or mapping.answer_type not in (None, "choice"):
        return problem
    if len(choices) > len(LETTERS):
        raise RowError("choices", f"{len(choices)} choices, more than there are letters")
    return "\n".join([problem, *(f"{letter}. {text}" for letter, text in zip(LETTERS, choices))])


def _place_marks(problem: str, num_images: int, mapping: MappingFile) -> str:
    """Each picture at its first mark. Later marks, and marks of pictures that do not exist, are taken out.

    Tags count pictures from the left, so the marks must come in the order of their pictures.
    """
    before, _, after = str(mapping.image_marks).partition("{n}")
    mark = re.compile(re.escape(before) + r"(\d{1,3})" + re.escape(after))
    placed: list[int] = []

    def tag(match: re.Match[str]) -> str:
        number = int(match[1])
        if mapping.image_place == "front" or number in placed or not 1 <= number <= num_images:
            return ""
        placed.append(number)
        return IMAGE_TAG

    text = mark.sub(tag, problem).strip()
    missing = [number for number in range(1, num_images + 1) if number not in placed]  # they go in front
    if [*missing, *placed] != sorted([*missing, *placed]):
        raise RowError(
            "image_marks",
            f"pictures {', '.join(map(str, placed))} are marked in this order; write image_place: front",
        )
    return IMAGE_TAG * len(missing) + text


def _answer(value: Any, choices: list[str], mapping: MappingFile) -> Any:
    """The `answer` column: the value, or `encode_answer` of it with a type, a tolerance or choices."""
    if choices and mapping.answer_type in (None, "choice"):
        return encode_answer(_letter(value, choices, mapping.answer_is), type="choice", choices=choices)
    if value is None or (mapping.answer_type is None and mapping.tolerance is None):
        return value
    type_ = None if mapping.answer_type == "choice" else mapping.answer_type  # a row without choices
    try:
        return encode_answer(
            value, type=type_, tolerance=mapping.tolerance, choices=choices if type_ == "countdown" else None
        )
    except AnswerError as error:
        raise RowError("empty_answer", error.problem) from error


def _letter(value: Any, choices: list[str], form: str) -> str:
    """The letter of the right choice."""
    text = str(value).strip()
    if form == "text":
        found = [i for i, choice in enumerate(choices) if choice.strip() == text]
        if len(found) != 1:
            raise RowError("answer_choice", f"the answer {text[:60]!r} is {len(found)} of the choices")
        return LETTERS[found[0]]
    if form == "letter":
        letter = text.strip("().: ").upper()
        index = LETTERS.find(letter) if len(letter) == 1 else -1
    else:
        number = text.removesuffix(".0")
        index = (int(number) if number.isdecimal() else -1) - (form == "number")
    if not 0 <= index < len(choices):
        raise RowError(
            "answer_choice",
            f"the answer {text[:60]!r} is no {form} of {len(choices)} choices; "
            "answer_is says how it names one",
        )
    return LETTERS[index]


def _images(row: Mapping[str, Any], mapping: MappingFile) -> list[Any]:
    """An empty column: the row has no such picture. An empty entry in a list: a lost picture, an error."""
    if mapping.images is None:
        return []
    columns = [mapping.images] if isinstance(mapping.images, str) else mapping.images
    found: list[Any] = []
    for column in columns:
        value = value_of(row, column, "images")
        if value is None or value == "":
            continue
        items = value if isinstance(value, list | tuple) else [value]
        for i, item in enumerate(items, start=1):
            if item is None or item == "":
                raise RowError("image_missing", f"image {i} of {len(items)} in {column!r} is empty")
            found.append(_image(item, mapping))
    return found


def _image(item: Any, mapping: MappingFile) -> Any:
    """Bytes or a path. Anything else stays as it is, and `example_from_row` refuses it."""
    item = stored_picture(item)
    if not isinstance(item, str):
        return item
    encoded = _from_base64(item)
    return encoded if encoded is not None else _path_of(item, mapping)


def _from_base64(text: str) -> bytes | None:
    """The picture in a data URI or in plain base64; None where the text is something else."""
    is_uri = text.startswith("data:image/")
    if is_uri:
        text = text.partition(",")[2]
    elif len(text) < 64:
        return None
    try:
        head = base64.b64decode(text[:64].strip(), validate=True)
        if is_uri or head.startswith(_MAGIC):
            return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if is_uri:
            raise RowError("image_unreadable", f"a data URI that is no base64: {error}") from error
    return None


def _path_of(name: str, mapping: MappingFile) -> str:
    """The file that is meant: a path, else the only file of the picture folder with that name or stem.

    For a URL, the file with its last part: users download pictures, this code never does.
    """
    is_url = name.startswith(("http://", "https://"))
    wanted = unquote(Path(urlparse(name).path).name) if is_url else name
    path = mapping.pictures / wanted
    if not is_url and "\0" not in name and path.is_file():
        return str(path)
    found = _index(mapping.pictures).get(Path(wanted).name, [])
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise RowError("image_missing", f"{len(found)} files are called {wanted!r}: {', '.join(found[:3])}")
    advice = "download the pictures and set image_folder" if is_url else "image_folder says where they lie"
    raise RowError("image_missing", f"no file {wanted[:300]!r} in {mapping.pictures}; {advice}")


@lru_cache(maxsize=8)
def _index(folder: Path) -> dict[str, list[str]]:
    """{file name, or name without its suffix: paths} of everything in a folder and its subfolders."""
    index: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            for key in {name, Path(name).stem}:
                index.setdefault(key, []).append(os.path.join(parent, name))
    return index
