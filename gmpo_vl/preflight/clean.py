"""A copy of the checked data without the rows that were found out, and a list of what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gmpo_vl.data.writing import parquet_writer, refuse_to_overwrite, replacing
from gmpo_vl.preflight.data_check import CheckResult
from gmpo_vl.preflight.row_check import RowChecker
from gmpo_vl.storage.files import naming, to_line

DROPPED = "dropped.jsonl"
TYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "string"}


def check_folder(folder: Path, checkers: Mapping[str, RowChecker]) -> None:
    """Raises DataError where a clean copy would overwrite the checked data, or files of another kind."""
    read = [table.name for checker in checkers.values() for table in checker.tables]
    refuse_to_overwrite([folder / f"{split}.parquet" for split in checkers], read, folder / DROPPED)
    refuse_to_overwrite([folder / DROPPED], read)


def write_clean(result: CheckResult, folder: Path) -> dict[str, tuple[int, int]]:
    """Write FOLDER/SPLIT.parquet and FOLDER/dropped.jsonl; returns {split: (rows written, rows dropped)}.

    Pictures are stored as they are, encoded; of further columns come along those that hold short texts and
    numbers. Raises DataError as `check_folder` does.
    """
    counts = {}
    with (
        replacing(folder, last=DROPPED) as new,
        naming(new.folder / DROPPED),
        (new.folder / DROPPED).open("w", encoding="utf-8") as dropped,
    ):
        check_folder(folder, result.checkers)
        for split, checker in result.checkers.items():
            unwanted, survey = result.unwanted[split], result.surveys[split]
            columns = {name: _type(kinds) for name, kinds in survey.kinds.items()}
            with parquet_writer(new.folder / f"{split}.parquet", {"id": "string", **columns}) as write:
                for number in range(survey.rows):
                    if number in unwanted:
                        place, _ = checker.read(number)
                        line = {**asdict(place), "reason": unwanted[number], "detail": ""}
                        dropped.write(to_line(line))
                    else:
                        write(_row(checker, number, columns))
            counts[split] = (survey.rows - len(unwanted), len(unwanted))
    return counts


def _type(kinds: set[str]) -> str:
    """A column's type: of numbers of both kinds float, of anything else that differs text."""
    if kinds == {"int", "float"}:
        return "float64"
    return TYPES[next(iter(kinds))] if len(kinds) == 1 else "string"


def _row(checker: RowChecker, number: int, columns: dict[str, str]) -> dict[str, Any]:
    example = checker.example(number)
    meta = {
        name: str(value) if columns[name] == "string" and value is not None else value
        for name in columns
        for value in [example.meta.get(name)]
    }
    images = [Path(image).read_bytes() if isinstance(image, str) else image for image in example.images]
    return {"images": images, "problem": example.problem, "answer": example.answer, "id": example.id, **meta}
