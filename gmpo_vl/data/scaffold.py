"""`gmpo-vl data new`: a commented mapping or Python file to start from, with the data set's columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.formats import rows_or_errors
from gmpo_vl.data.rows import DataError, RowError, stored_picture
from gmpo_vl.data.sources import open_tables
from gmpo_vl.storage.files import write_text

# Usual names of columns, most telling first.
_USUAL = {
    "images": ("images", "image", "image_path", "img", "picture", "photo", "file_name", "filename", "file"),
    "problem": ("problem", "question", "query", "prompt", "instruction", "text"),
    "answer": ("answer", "solution", "label", "gold", "target", "ground_truth"),
    "choices": ("options", "choices"),
    "id": ("id", "qid", "question_id", "idx", "index"),
}
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def write_start(name: str, source: str | None = None, python: bool = False, folder: str | Path = ".") -> Path:
    """Write NAME.yaml or NAME.py into `folder`; returns its path. Raises DataError if the file exists."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not re.fullmatch(r"[\w-]+", name):
        raise DataError(f"the name {name!r} becomes a file's: letters, digits, - and _ only")
    path = Path(folder) / (f"{name}.py" if python else f"{name}.yaml")
    if path.exists():
        raise DataError(f"{path} exists already; take another name or remove it")
    row = first_row(source) if source is not None and not python else {}
    environment = Environment(
        loader=PackageLoader("gmpo_vl.data", "scaffolds"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("prepare.py.jinja" if python else "mapping.yaml.jinja")
    guesses = {key: _guess(words, list(row)) for key, words in _USUAL.items()}
    guesses["images"] = guesses["images"] or next((name for name in row if _is_picture(row[name])), None)
    columns = [(name, _shown(value)) for name, value in row.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # write_text takes rows that are no UTF-8; `convert` refuses them later.
    write_text(path, template.render(name=name, source=source, columns=columns, guesses=guesses))
    return path


def first_row(source: str) -> dict[str, Any]:
    """The first readable row of a data set. Raises DataError, with the first fault, if there is none."""
    fault = ""
    for table in open_tables(source):
        for i, row in enumerate(rows_or_errors(table.rows.__getitem__, range(min(20, len(table.rows))))):
            if not isinstance(row, RowError):
                return {str(name): value for name, value in row.items()}
            fault = fault or f"; {table.name}, row {i}: {row}"
    raise DataError(f"{source}: no row of it can be read{fault}")


def _guess(words: Sequence[str], columns: Sequence[str]) -> str | None:
    named = {column.lower(): column for column in columns}
    return next((named[word] for word in words if word in named), None)


def _is_picture(value: Any) -> bool:
    """Encoded bytes, a path or base64, alone or several."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and _is_picture(value[0])
    value = stored_picture(value)
    if isinstance(value, str):
        return value.lower().endswith(_PICTURES) or value.startswith("data:image/")
    return isinstance(value, bytes)


def _shown(value: Any) -> str:
    """A value in a few words, on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_shown(v)}' for k, v in list(value.items())[:4])}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value[:3]))}{', ...' if len(value) > 3 else ''}]"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = " ".join(str(value).split())
    return text if len(text) <= 70 else text[:67] + "..."
