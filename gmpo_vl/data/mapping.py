"""The mapping file: how the columns of a data set become EasyR1's, in a few lines of YAML.

    source: questions.csv                # file, folder or hub id as in sources.py; relative to this file
    images: photo                        # a column, or several: [left, right]
    problem: "{{ question }} Answer in metres."
    answer: height

KEYS lists every key with its meaning; docs/data.md shows examples. A value with `{{` or `{%` is a jinja
template over the row's columns, any other value is the name of a column. Templates run in jinja's sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from gmpo_vl.data.answers import TYPES
from gmpo_vl.data.images import MAX_IMAGE_PIXELS, PILLOW_MAX_PIXELS
from gmpo_vl.data.pictures.folder import PictureFolder
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.template_filters import FILTERS
from gmpo_vl.storage.names import nearest
from gmpo_vl.storage.yaml_text import read_yaml, shown, wrong_kind

KEYS = {
    "source": (
        "a file, folder or hub id (`@SPLIT` after it), a list of them, "
        "or {train: ..., validation: ..., test: ...}"
    ),
    "problem": "column or template; where it has no <image>, the pictures go in front",
    "answer": (
        "column or template; a list holds alternatives, any of them right "
        "(with choices, or answer_type list: all of them)"
    ),
    "images": (
        "column or template, or a list of them: paths, encoded bytes, base64, or nothing (not inside a list)"
    ),
    "image_folder": (
        "folder, .zip or .tar file where paths begin (the mapping file's folder); "
        "a bare name is looked for in all of it"
    ),
    "image_marks": "how the problem marks its pictures, for example <image{n}>: {n} counts from 1",
    "image_place": "`marks`: each picture at its first mark; `front`: all in front, marks taken out",
    "max_image_pixels": f"width x height of the largest picture that is taken ({MAX_IMAGE_PIXELS:,})",
    "choices": (
        "column or template with the choices (list, dict, or one text: `A. x; B. y`), or a list of columns; "
        "they are written below the problem as A. ... B. ..., unless it shows them"
    ),
    "choices_written": "true: the problem already shows the choices in other words, write none",
    "answer_is": (
        "with choices: `letter`, `index` (from 0), `number` (from 1), or `text` of the right one; "
        "nothing: what can be seen"
    ),
    "answer_type": f"what the answer is read as: {', '.join(TYPES)}; nothing lets the verifier see",
    "tolerance": "relative error that still counts as right: 0.01 is 1%",
    "id": "column or template; nothing names rows by file and number",
    "keep": 'only rows for which this is true, for example: level >= 3 and split == "train"',
    "carry": "list of columns that come along unchanged",
    "validation": "share of the train rows that become the validation split, by hash",
    "split_by": (
        "column or template whose equal values stay on one side; nothing: the picture, or the problem"
    ),
    "split_column": "column that names the split of each row: train, validation (val, dev), test",
}
PLACEHOLDER = "COLUMN"  # stands for a column that `data new` could not guess
FOLDER = "FOLDER"  # and for a folder of pictures


@dataclass(frozen=True)
class MappingFile:
    """A mapping file as read. `folder` holds the file; relative sources and pictures begin there."""

    folder: Path
    source: str | list[str] | dict[str, Any]
    problem: str
    answer: str
    images: str | list[str] | None = None
    image_folder: str | None = None
    image_marks: str | None = None
    image_place: Literal["marks", "front"] = "marks"
    max_image_pixels: int = MAX_IMAGE_PIXELS
    choices: str | list[str] | None = None
    choices_written: bool = False
    answer_is: Literal["auto", "letter", "index", "number", "text"] = "auto"
    answer_type: str | None = None
    tolerance: float | None = None
    id: str | None = None
    keep: str | None = None
    carry: list[str] | None = None
    validation: float = 0.0
    split_by: str | None = None
    split_column: str | None = None

    @property
    def sources(self) -> dict[str, list[str]]:
        """{split to write: its sources}."""
        named = self.source if isinstance(self.source, dict) else {"train": self.source}
        return {split: [s] if isinstance(s, str) else list(s) for split, s in named.items()}

    @cached_property
    def pictures(self) -> PictureFolder:
        return PictureFolder(self.folder if self.image_folder is None else self.folder / self.image_folder)


def load_mapping(path: str | Path) -> MappingFile:
    """Read a mapping file. Raises DataError naming file, key and what to write instead."""
    path = Path(path)
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"there is no mapping file {path}; `gmpo-vl data new NAME --source FILE` writes one"
        ) from None
    except IsADirectoryError:
        raise DataError(
            f"{path} is a folder, not a mapping file; "
            f"`gmpo-vl data new NAME --source {path}` writes one that reads it"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: a mapping file holds `key: value` lines: {', '.join(KEYS)}")
    if said := wrong_kind(path, values, "a mapping file"):
        raise DataError(said)
    values = {key: value for key, value in values.items() if value is not None}
    problems = [*_key_problems(values), *_value_problems(values)]
    if problems:
        raise DataError("\n".join(f"{path}: {problem}" for problem in problems))
    return MappingFile(folder=path.parent, **values)


def _key_problems(values: dict[str, Any]) -> list[str]:
    problems = []
    for key in [key for key in values if key not in KEYS]:
        problems.append(f"there is no key {key!r}{nearest(str(key), KEYS)}")
    missing = [key for key in ("source", "problem", "answer") if key not in values]
    return problems + [f"{key} is missing: {KEYS[key]}" for key in missing]


def _value_problems(values: dict[str, Any]) -> list[str]:
    hints = get_type_hints(MappingFile)
    problems = [
        f"{key}: {shown(values[key])} does not fit: {KEYS[key]}"
        for key in KEYS
        if key in values and not _fits(values[key], hints[key])
    ]
    if problems:
        return problems
    share, source = values.get("validation", 0), values.get("source")
    if not 0 <= share < 1:
        problems.append(f"validation: {share} is no share between 0 and 1")
    if not 0 < values.get("tolerance", 0.5) < 1:
        problems.append(f"tolerance: {values['tolerance']} must lie between 0 and 1 (0.01 is 1%)")
    if not 0 < values.get("max_image_pixels", 1) <= PILLOW_MAX_PIXELS:
        problems.append(
            f"max_image_pixels: {values['max_image_pixels']} is not between 1 and {PILLOW_MAX_PIXELS:,}"
        )
    if values.get("answer_type") not in (None, *TYPES):
        problems.append(f"answer_type: {values['answer_type']!r} is none of {', '.join(TYPES)}")
    if "answer_is" in values and "choices" not in values:
        problems.append("answer_is says how an answer names one of the choices, and there are no choices")
    if share and isinstance(source, dict) and "validation" in source:
        problems.append("validation: the sources have a validation split already; take one of the two away")
    if "split_column" in values and isinstance(source, dict) and len(source) > 1:
        problems.append("split_column: the sources have splits already; take one of the two away")
    type_ = values.get("answer_type")
    if type_ == "choice" and "choices" not in values:
        problems.append(
            "answer_type: choice needs `choices` (a problem's column where it shows them); "
            "without them leave answer_type out: a lone letter is read as an option's"
        )
    if "choices" in values and type_ not in (None, "choice", "countdown"):
        problems.append(f"choices: with answer_type {type_} nothing reads them; take one of the two away")
    if "image_marks" in values and "{n}" not in values["image_marks"]:
        problems.append(f"image_marks: {values['image_marks']!r} has no {{n}}, the picture's number")
    for key in ("problem", "answer", "id", "split_by", "images", "choices"):
        for text in values[key] if isinstance(values.get(key), list) else [values.get(key, "")]:
            if is_template(text) and (reason := _obstacle(text)):
                problems.append(f"{key}: {shown(text)} is no jinja template: {reason}")
    if "keep" in values and (reason := _obstacle(as_template(values["keep"]))):
        problems.append(f"keep: {shown(values['keep'])} is no condition: {reason}")
    return problems


def _fits(value: Any, hint: Any) -> bool:
    """Is a YAML value of a field's type? Lists hold texts."""
    text = str(hint)
    if isinstance(value, bool):
        return hint is bool
    if isinstance(value, str):
        return value in hint.__args__ if "Literal" in text else "str" in text
    if isinstance(value, list):
        return "list[str]" in text and bool(value) and all(isinstance(item, str) for item in value)
    if isinstance(value, dict):
        named = (isinstance(name, str) and _fits(inner, str | list[str]) for name, inner in value.items())
        return "dict" in text and bool(value) and all(named)
    return (isinstance(value, int) and hint is int) or (isinstance(value, int | float) and "float" in text)


def is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def columns_of(name: str) -> set[str]:
    """The column of that name, or the names that a template speaks of, columns among them."""
    from jinja2.nodes import Name

    if not is_template(name):
        return {name}
    return {node.name for node in _environment().parse(name).find_all(Name)}


def value_of(row: Any, name: str, key: str) -> Any:
    """The column of that name, or the filled template. Raises RowError naming the mapping's key."""
    if is_template(name):
        return _filled(name, row, "template", f"{key}: {shown(name)} cannot be filled from this row")
    if name not in row:
        raise RowError("missing_column", f"{key}: {_no_column(name, row)}")
    return row[name]


def optional_value(row: Any, name: str, key: str) -> Any:
    """As `value_of`, and None for a column that this row does not have: rows of JSON leave empty ones out.
    `columns.check_columns` refuses a column that no row has.
    """
    return value_of(row, name, key) if is_template(name) or name in row else None


def _no_column(name: str, row: Mapping[str, Any]) -> str:
    return f"no column {name!r}{nearest(name, row)}; the row has {', '.join(map(repr, row)) or 'none'}"


def is_kept(row: Any, condition: str | None) -> bool:
    """Is the row wanted? Raises RowError where the condition cannot be answered for it."""
    if condition is None:
        return True
    problem = f"keep: {shown(condition)} cannot be answered for this row"
    return bool(_filled(as_template(condition), row, "keep", problem))


def as_template(condition: str) -> str:
    """A template that gives text where the condition holds, and none where it does not."""
    return f"{{% if {condition} %}}yes{{% endif %}}"


# Templates get a column `self` under this name: in jinja, `self` is the template itself.
_SELF = "column_called_self"
_UNDEFINED = re.compile(r"'(.+)' is undefined")  # jinja, of a name that is no column


def _filled(text: str, row: Any, reason: str, problem: str) -> str:
    """The template with the row's columns. Raises RowError(reason) with the problem and what jinja says."""
    try:
        return _template(text).render({**row, _SELF: row["self"]} if "self" in row else row)
    except MemoryError:
        raise
    except Exception as error:  # a template is anybody's code
        name = _UNDEFINED.fullmatch(str(error))
        said = _no_column("self" if name[1] == _SELF else name[1], row) if name else error
        raise RowError(reason, f"{problem}: {said}") from error


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class Absent(StrictUndefined):
        """Says which keys there are, or how long the list is."""

        def __init__(self, hint: str | None = None, obj: Any = missing, name: Any = None, **kind: Any):
            super().__init__(hint or _absent(obj, name), obj, name, **kind)

    environment = ImmutableSandboxedEnvironment(autoescape=False, undefined=Absent)
    environment.filters |= FILTERS
    return environment


def _absent(holder: Any, name: Any) -> str | None:
    """What a value has in place of the key or entry that a template asks for; None for no value at all."""
    if isinstance(holder, Mapping):
        keys = ", ".join(repr(key) for key in list(holder)[:20])
        return f"there is no {name!r} in it{nearest(str(name), map(str, holder))}; it has {keys or 'nothing'}"
    if isinstance(holder, list | tuple) and isinstance(name, int):
        return f"there is no entry {name}: the list has {len(holder)}"
    return None


@lru_cache(maxsize=64)
def _template(text: str) -> Any:
    from jinja2.nodes import Name

    tree = _environment().parse(text)
    for name in tree.find_all(Name):
        name.name = _SELF if name.name == "self" else name.name
    return _environment().from_string(tree)


def _obstacle(template: str) -> str | None:
    """Why it cannot be compiled, by jinja or by the Python that jinja makes; None if it can."""
    try:
        _template(template)
    except Exception as error:
        return f"it is nested too deep ({error})" if isinstance(error, RecursionError) else str(error)[:300]
    return None


assert {field.name for field in fields(MappingFile)} == {"folder", *KEYS}
