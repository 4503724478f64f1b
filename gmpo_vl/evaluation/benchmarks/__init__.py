"""Benchmarks of pictures (docs/benchmarks.md): what turns a row in its public columns into a question.

`data_prep/vision_benchmarks.py` writes the questions in EasyR1's columns, which the protocol of the same name
asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.data.images import ImageError, image_size
from gmpo_vl.data.mapping import MappingFile
from gmpo_vl.data.pictures.of_row import Check, pictures_of_row
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import open_tables
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.evaluation.benchmarks.general import chartqa, hallusionbench, logicvista, mmmu
from gmpo_vl.evaluation.benchmarks.geometry import geometry3k_choices, geoqa
from gmpo_vl.evaluation.benchmarks.mathematics import dynamath, mathverse, mathvision, mathvista, wemath
from gmpo_vl.evaluation.benchmarks.questions import Question, Row


@dataclass(frozen=True)
class Benchmark:
    """read: a row's question; None for a row that is no question. columns: those that a question carries."""

    read: Callable[[Row], Question | None]
    columns: tuple[str, ...] = ()


_OF_A_SET = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")
BENCHMARKS = {
    "mathvision": Benchmark(mathvision, ("subject", "level")),
    "mathvision_testmini": Benchmark(mathvision, ("subject", "level")),
    "geometry3k_choices": Benchmark(geometry3k_choices),
    "geoqa": Benchmark(geoqa),
    "mathvista": Benchmark(mathvista, ("question_type", "answer_type", "task", "skills")),
    "mathverse": Benchmark(mathverse, ("problem_id", "version", "subject", "question_type")),
    "wemath": Benchmark(wemath, ("problem_id", "part", "steps", "step", "concept")),
    "hallusionbench": Benchmark(hallusionbench, _OF_A_SET),
    "logicvista": Benchmark(logicvista, ("skill", "capability")),
    "dynamath": Benchmark(dynamath, ("question_id", "variant", "subject", "level", "answer_type")),
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
        folder = images or table.folder
        mapping = MappingFile(folder or Path(), "", "", "", images="images")
        for number in range(len(table.rows)):
            where = f"{table.name}, row {number}"
            try:
                row = _row_of(name, table.rows[number], f"{name}-{len(seen)}", mapping, _inside(folder))
            except RowError as error:
                raise DataError(f"{where}: {error}") from error
            if row is None:
                continue
            if row["id"] in seen:
                raise DataError(f"{where}: its id {row['id']!r} is that of {seen[row['id']]}, too")
            seen[row["id"]] = where
            yield row


def _row_of(name: str, row: Row, place: str, mapping: MappingFile, inside: Check) -> dict[str, Any] | None:
    """place: the id of a row that has none. Raises RowError."""
    question = BENCHMARKS[name].read(row)
    if question is None:
        return None
    pictures = pictures_of_row({"images": list(question.pictures)}, mapping, check=inside)
    if (tags := question.problem.count(IMAGE_TAG)) != len(pictures):
        raise RowError("image_tags", f"{tags} {IMAGE_TAG} tags in the problem for {len(pictures)} pictures")
    return {
        "images": [_encoded(picture) for picture in pictures],
        "problem": question.problem,
        "answer": question.answer,
        "id": question.id or place,
        **question.columns,
    }


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
                f"the row names the file {file[:300]!r}, which is outside of {folder}: copy pictures into that "
                "folder, or name another with --images",
            )

    return check


def _encoded(picture: Any) -> bytes:
    """A picture as it is stored, when its header says that it is one. Raises RowError."""
    try:
        image_size(picture)
        return Path(picture).read_bytes() if isinstance(picture, str) else bytes(picture)
    except (ImageError, OSError) as error:
        raise RowError("image_unreadable", str(error)) from error
