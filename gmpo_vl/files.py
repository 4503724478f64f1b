"""Small files, written whole or not at all: text, JSON, and JSON lines."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any


def to_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def append_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(to_line(row) for row in rows)
    if text:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file. A last line without its newline was being written when the process died: left out.

    Raises ValueError naming file and line for anything else that is not JSON.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: never half of it, whatever happens."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # shards may write the same file at once
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_object(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def sync(path: Path) -> None:
    """Ask the system to put a file or folder on the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names_a_folder(text: str) -> bool:
    """Does FOLDER/text lie in FOLDER, below it, whatever the text? And is it free of control characters?"""
    path = PurePath(text)
    shown = all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in text)
    return (
        bool(text.strip())
        and bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and shown
    )
