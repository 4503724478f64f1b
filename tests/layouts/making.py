"""What the copies of public layouts are made with: drawn pictures, files, and what rows must become."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

Picture = Image.Image


@dataclass(frozen=True)
class Row:
    """What a row must become. right, wrong: answers in the forms in which models write them."""

    problem: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Layout:
    """write: makes the files in a folder; gives the source and what its rows must become.

    mapping: the lines that replace the ones of `gmpo-vl data new`; None: those are right as they are.
    """

    write: Callable[[Path], tuple[Path, list[Row]]]
    mapping: str | None = None


def drawn(text: str, size: tuple[int, int] = (84, 56)) -> Picture:
    """A picture like no other with this text."""
    colour = tuple(64 + 16 * (sum(map(ord, text * (k + 1))) % 9) for k in range(3))
    picture = Image.new("RGB", size, colour)
    ImageDraw.Draw(picture).text((6, 6), text, fill="white")
    return picture


def png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def saved(path: Path, picture: Picture) -> Picture:
    """The picture as it is in its file: JPEG changes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    with Image.open(path) as found:
        return found.convert("RGB")


def choice(
    shown: str, options: Sequence[str], letter: str, pictures: Sequence[Picture], texts: bool = True
) -> Row:
    """A row of which one option is right. shown: the whole problem. texts: an option's text answers, too."""

    def forms(k: int) -> list[str]:
        own = "ABCDEFGH"[k]
        words = [f"{own}. {options[k]}", f"({own}) {options[k]}", options[k]] if texts else []
        return [own, f"({own})", f"{own}.", *words]

    gold = "ABCDEFGH".index(letter)
    wrong = [form for k in range(len(options)) if k != gold for form in forms(k)]
    return Row(shown, tuple(forms(gold)), tuple(wrong), tuple(pictures))


def lines(question: str, options: Sequence[str]) -> str:
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in zip("ABCDEFGH", options))])


def write_json(path: Path, value: Any, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding=encoding)
    return path


def parquet(path: Path, rows: list[dict[str, Any]], pictures: Sequence[str], types: dict[str, Any]) -> Path:
    """With picture columns as `datasets` writes them."""
    stored = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([*((name, stored) for name in pictures), *types.items()])
    rows = [
        {k: {"bytes": png(v), "path": None} if isinstance(v, Image.Image) else v for k, v in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path
