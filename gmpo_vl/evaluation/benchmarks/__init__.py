"""Benchmarks of pictures (docs/benchmarks.md): what turns a row in its public columns into a question.

`data_prep/vision_benchmarks.py` writes the questions in EasyR1's columns, which the protocol of the same name
asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.data.mapping import MappingFile
from gmpo_vl.data.pictures.of_row import pictures_of_row
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import open_tables
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.writing import write_parquet
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


_OF_A_SET = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")
BENCHMARKS = {
    "mathvision": Benchmark(mathvision, ("subject", "level")),
    "mathvision_testmini": Benchmark(mathvision, ("subject", "level")),
    "geometry3k_choices": Benchmark(geometry3k_choices),
    "geoqa": Benchmark(geoqa),
    "mathvista": Benchmark(mathvista, ("question_type", "answer_type", "task", "skills"), mathvista_name),
    "mathverse": Benchmark(mathverse, ("problem_id", "version", "subject", "question_type"), mathverse_name),
    "wemath": Benchmark(wemath, ("problem_id", "part", "steps", "step", "concept"), wemath_name),
    "hallusionbench": Benchmark(hallusionbench, _OF_A_SET, hallusionbench_name),
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
    columns = {"id": "string", **dict.fromkeys(BENCHMARKS[name].columns, "string")}
    return write_parquet(out / f"{name}.parquet", read_benchmark(name, sources, images), columns)


def read_benchmark(name: str, sources: list[str], images: Path | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `write_benchmark`: {images (encoded), problem, answer, id, columns}."""
    seen: dict[str, str] = {}
    for table in open_tables(sources):
        mapping = MappingFile(images or table.folder or Path(), "", "", "", images="images")
        for number in range(len(table.rows)):
            where = f"{table.name}, row {number}"
            try:
                row = _row_of(name, table.rows[number], f"{name}-{len(seen)}", mapping)
            except RowError as error:
                raise DataError(f"{where}: {error}") from error
            if row is None:
                continue
            if row["id"] in seen:
                raise DataError(f"{where}: its id {row['id']!r} is that of {seen[row['id']]}, too")
            seen[row["id"]] = where
            yield row


def _row_of(name: str, row: Row, place: str, mapping: MappingFile) -> dict[str, Any] | None:
    """place: the id of a row that has none. Raises RowError."""
    question = BENCHMARKS[name].read(row)
    if question is None:
        return None
    pictures = pictures_of_row({"images": list(question.pictures)}, mapping)
    if (tags := question.problem.count(IMAGE_TAG)) != len(pictures):
        raise RowError("image_tags", f"{tags} {IMAGE_TAG} tags in the problem for {len(pictures)} pictures")
    return {
        "images": [Path(p).read_bytes() if isinstance(p, str) else p for p in pictures],
        "problem": question.problem,
        "answer": question.answer,
        "id": question.id or place,
        **question.columns,
    }
