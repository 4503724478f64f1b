"""One row of a data set becomes EasyR1's columns, as a mapping file says; or a RowError."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmpo_vl.data.mapping import MappingFile, is_kept, optional_value, value_of
from gmpo_vl.data.options import answer_of_row, choices_of_row, with_choices
from gmpo_vl.data.pictures.of_row import pictures_of_row
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.templates import IMAGE_TAG


def map_row(
    row: Mapping[str, Any], mapping: MappingFile, beside: Path | None = None
) -> dict[str, Any] | None:
    """{problem, answer, images, id?, carried columns}; None for a row that `keep` leaves out. Raises
    RowError.

    beside: the folder of the row's table. images: bytes and paths. What the values hold is checked
    afterwards, as in every data set (`rows.example_from_row`).
    """
    if not is_kept(row, mapping.keep):
        return None
    images = pictures_of_row(row, mapping, beside)
    choices = choices_of_row(row, mapping)
    problem = value_of(row, mapping.problem, "problem")
    if isinstance(problem, str):
        problem = with_choices(problem.strip(), choices, mapping)
        if mapping.image_marks is not None:
            problem = _place_marks(problem, len(images), mapping)
        elif IMAGE_TAG not in problem:
            problem = IMAGE_TAG * len(images) + problem
    mapped = {
        "problem": problem,
        "answer": answer_of_row(value_of(row, mapping.answer, "answer"), choices, mapping),
        "images": images,
    }
    if mapping.id is not None:
        mapped["id"] = optional_value(row, mapping.id, "id")
    return mapped | {name: optional_value(row, name, "carry") for name in mapping.carry or ()}


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
