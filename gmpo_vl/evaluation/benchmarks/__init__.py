"""Benchmarks of pictures (docs/benchmarks.md): what turns a row in its public columns into a question.

`data_prep/vision_benchmarks.py` writes the questions in EasyR1's columns, which the protocol of the same name
asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.answers import written
from gmpo_vl.data.images import ImageError, image_size
from gmpo_vl.data.mapping import MappingFile
from gmpo_vl.data.pictures.of_row import Check, pictures_of_row
from gmpo_vl.data.rows import DataError, RowError, is_small_scalar
from gmpo_vl.data.sources import Table, open_tables
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.evaluation.aggregates import AGGREGATES, HALLUSIONBENCH, Unit
from gmpo_vl.evaluation.benchmarks.general import (
    chartqa,
    hallusionbench,
    hallusionbench_name,
    logicvista,
    mmmu,
)
from gmpo_vl.evaluation.benchmarks.geometry import geometry3k_choices, geoqa
from gmpo_vl.evaluation.benchmarks.mathematics import (
    dynamath,
    dynamath_name,
    mathverse,
    mathverse_name,
    mathvision,
    mathvista,
    mathvista_name,
    wemath,
    wemath_name,
)
from gmpo_vl.evaluation.benchmarks.questions import Question, Row


@dataclass(frozen=True)
class Benchmark:
    """read: a row's question; None for a row that is no question. columns: those that a question carries.
    name: a row's id, where other columns than one called id or index make it; RowError without them."""

    read: Callable[[Row], Question | None]
    columns: tuple[str, ...] = ()
    name: Callable[[Row], str] | None = None


BENCHMARKS = {
    "mathvision": Benchmark(mathvision, ("subject", "level")),
    "mathvision_testmini": Benchmark(mathvision, ("subject", "level")),
    "geometry3k_choices": Benchmark(geometry3k_choices),
    "geoqa": Benchmark(geoqa),
    "mathvista": Benchmark(mathvista, ("question_type", "answer_type", "task", "skills"), mathvista_name),
    "mathverse": Benchmark(mathverse, ("problem_id", "version", "subject", "question_type"), mathverse_name),
    "wemath": Benchmark(wemath, ("problem_id", "part", "steps", "step", "concept"), wemath_name),
    "hallusionbench": Benchmark(hallusionbench, HALLUSIONBENCH, hallusionbench_name),
    "logicvista": Benchmark(logicvista, ("skill", "capability")),
    "dynamath": Benchmark(
        dynamath, ("question_id", "variant", "subject", "level", "answer_type"), dynamath_name
    ),
    "chartqa": Benchmark(chartqa, ("part",)),
    "mmmu": Benchmark(mmmu, ("subject", "discipline", "question_type")),
}


def write_benchmark(name: str, sources: list[str], out: Path, images: Path | None = None) -> int:
    """Write OUT/NAME.parquet of a benchmark's rows and return how many. sources: files, folders or hub ids in
    its public columns, in order. images: where names of pictures begin; else beside the file.

    Raises DataError that names file and row, and leaves a former OUT/NAME.parquet as it was.
    """
    rows = read_benchmark(name, sources, images)
    first = list(islice(rows, 1))
    if not first:
        raise DataError(f"{', '.join(map(str, sources))}: no rows of {name} here")
    with_index = [column for row in first for column in ("index",) if row[column]]
    texts = ("id", *with_index, *BENCHMARKS[name].columns, *(unit.size for unit in _units(name)))
    columns = {"source_row": "int64", **dict.fromkeys(texts, "string")}
    return write_parquet(out / f"{name}.parquet", chain(first, rows), columns)


def read_benchmark(name: str, sources: list[str], images: Path | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `write_benchmark`: {images (encoded), problem, answer, id, source_row, index, columns}.

    source_row: the row's place in the public table, from 0; several tables are counted through. index: as
    VLMEvalKit's tables have it; None without one. A unit of the aggregate has its size in a column.
    """
    tables = open_tables(sources)
    units = _units(name)
    sizes = Counter(key for found in (_read(name, tables) if units else ()) for key in _keys(units, found))
    seen: dict[str, str] = {}
    mappings: dict[Path | None, MappingFile] = {}  # one a folder, whose names are read once
    for found in _read(name, tables):
        question = found.question
        row_id = question.id or f"{name}-{len(seen)}"  # its place, of a row that has none
        if row_id in seen:
            raise DataError(f"{found.where}: its id {row_id!r} is that of {seen[row_id]}, too")
        seen[row_id] = found.where
        folder = images or found.table.folder
        mapping = MappingFile(folder or Path(), "", "", "", images="images")
        mapping = mappings.setdefault(folder, mapping)
        yield {
            "images": _pictures(found, mapping, _inside(folder)),
            "problem": question.problem,
            "answer": question.answer,
            "id": row_id,
            "source_row": found.source_row,
            "index": found.index,
            **question.columns,
            **dict.fromkeys((unit.size for unit in units), "0"),
            **{size: str(sizes[size, of]) for size, of in _keys(units, found)},
        }


@dataclass(frozen=True)
class _Found:
    """A question and where it stands. source_row, index: as in `read_benchmark`."""

    question: Question
    table: Table
    where: str
    source_row: int
    index: str | None


def _read(name: str, tables: Sequence[Table]) -> Iterator[_Found]:
    """Every row that is a question, in order. Raises DataError."""
    places = count()
    for table in tables:
        for number in range(len(table.rows)):
            place, where = next(places), f"{table.name}, row {number}"
            try:
                row = table.rows[number]
                question = BENCHMARKS[name].read(row)
            except ValueError as error:  # RowError, or a gold that cannot be encoded
                raise DataError(f"{where}: {error}") from error
            if question is not None:
                index = row.get("index")
                kept = is_small_scalar(index) and not is_empty(index)
                yield _Found(question, table, where, place, written(index) if kept else None)


def _units(name: str) -> Sequence[Unit]:
    return AGGREGATES[name].units if name in AGGREGATES else ()


def _keys(units: Sequence[Unit], found: _Found) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(column of its size, what names it) of each unit that the question is in."""
    row = found.question.columns
    return ((unit.size, tuple(row[column] for column in unit.columns)) for unit in units if unit.takes(row))


def _pictures(found: _Found, mapping: MappingFile, inside: Check) -> list[bytes]:
    """The question's pictures, encoded. Raises DataError, also where its tags are not as many."""
    try:
        row = {"images": list(found.question.pictures)}
        pictures = [_encoded(p) for p in pictures_of_row(row, mapping, check=inside)]
    except RowError as error:
        raise DataError(f"{found.where}: {error}") from error
    if (tags := found.question.problem.count(IMAGE_TAG)) != len(pictures):
        raise DataError(f"{found.where}: {tags} {IMAGE_TAG} tags in the problem for {len(pictures)} pictures")
    return pictures


def _inside(folder: Path | None) -> Check:
    """Public rows are not trusted: a picture that one names lies in the folder, links resolved."""

    def check(file: str) -> None:
        if folder is None:
            raise RowError(
                "image_outside", "the picture is a name, and rows of the hub lie in no folder: give --images"
            )
        if not Path(file).resolve().is_relative_to(folder.resolve()):
            raise RowError(
                "image_outside",
                f"the row names the file {file[:300]!r}, which is outside of {folder}: copy pictures "
                "into that folder, or name another with --images",
            )

    return check


def _encoded(picture: Any) -> bytes:
    """A picture as it is stored, when its header says that it is one. Raises RowError."""
    try:
        image_size(picture)
        return Path(picture).read_bytes() if isinstance(picture, str) else bytes(picture)
    except (ImageError, OSError) as error:
        raise RowError("image_unreadable", str(error)) from error
