"""Geometry3K in four choices and GeoQA: a row of each in its public columns."""

from __future__ import annotations

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.pictures.of_row import entries_of
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.evaluation.benchmarks.questions import Question, Row, below, cell, letter_gold, options_of, text


def geometry3k_choices(row: Row) -> Question:
    """Geometry3K (Lu et al. 2021) with its four choices, as Yang130/geometry3k_4choices_mixed: images,
    problem, choices, ground_truth (a letter). A row is known by its place."""
    options, pictures = options_of(row, "choices"), entries_of(cell(row, "images"))
    if len(options) != 4 or len(pictures) != 1:
        raise RowError(
            "choices", f"{len(options)} choices and {len(pictures)} pictures; there are four and one"
        )
    asked = text(row, "problem").replace(IMAGE_TAG, "").strip()
    return Question(
        id="",
        problem=IMAGE_TAG + below(asked, options),
        answer=letter_gold(text(row, "ground_truth").upper(), options),
        pictures=pictures,
    )


def geoqa(row: Row) -> Question:
    """The 754 test questions of GeoQA (Chen et al. 2021) as R1-V asks them, without choices: image_path,
    question, ground_truth, which carries units (140\u00b0, 3cm, 9\u7c73). A row is known by its place."""
    return Question(
        id="",
        problem=IMAGE_TAG + text(row, "question"),
        answer=encode_answer(text(row, "ground_truth")),
        pictures=[cell(row, "image_path", "image")],
    )
