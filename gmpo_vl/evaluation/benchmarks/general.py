"""LogicVista, HallusionBench, ChartQA and MMMU: a row of each in its public columns."""

from __future__ import annotations

import re

from gmpo_vl.data.answers import LETTERS, encode_answer
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty
from gmpo_vl.evaluation.benchmarks.questions import (
    Question,
    Row,
    below,
    cell,
    letter_gold,
    lettered_options,
    one_of,
    optional,
    options_of,
    placed,
    text,
    texts,
    whole,
)


def logicvista(row: Row) -> Question | None:
    """LogicVista (Xiao et al. 2024), data/dataset.json or lscpku/LogicVista: imagename (or image), question,
    answer (a letter, or several: `A, C`), skill, broad_capability. Options stand in the picture.

    None for the one row of the public file that has neither question nor answer.
    """
    if is_empty(optional(row, "question")) and is_empty(optional(row, "answer")):
        return None
    answer, asked = text(row, "answer"), text(row, "question")
    return Question(
        id=text(row, "key", "imagename", "index"),
        problem=IMAGE_TAG + asked,
        answer=encode_answer(answer) if answer.isdecimal() else letter_gold(answer, lettered_options(asked)),
        pictures=[cell(row, "image", "imagename")],
        columns={"skill": _only(row, "skill"), "capability": _only(row, "broad_capability")},
    )


def _only(row: Row, column: str) -> str:
    """The one text of a list, which may come as text."""
    value = texts(row, column)
    if len(value) != 1:
        raise RowError("value", f"column {column!r} has {len(value)} values; there is one")
    return value[0]


def hallusionbench(row: Row) -> Question:
    """HallusionBench (Guan et al. 2024), HallusionBench.json: category, subcategory, visual_input, set_id,
    figure_id, question_id, question, gt_answer (0 is no, 1 is yes), filename (or image).

    Rows with visual_input 0 are asked without a picture.
    """
    of_set = {name: text(row, name) for name in ("category", "subcategory")}
    of_set |= {name: whole(row, name) for name in ("set_id", "figure_id", "question_id", "visual_input")}
    gold = {"0": "No", "1": "Yes"}[one_of(text(row, "gt_answer"), ("0", "1"), "gt_answer")]
    pictures = [] if of_set["visual_input"] == "0" else [cell(row, "image", "filename")]
    return Question(
        id=hallusionbench_name(row),
        problem=f"{IMAGE_TAG * len(pictures)}{text(row, 'question')} Please answer yes or no.",
        answer=encode_answer(gold, type="text"),
        pictures=pictures,
        columns=of_set,
    )


def hallusionbench_name(row: Row) -> str:
    """`VD_math_0_1_2`. VLMEvalKit calls the subcategory l2-category."""
    places = [text(row, "category"), text(row, "subcategory", "l2-category")]
    return "_".join(places + [whole(row, column) for column in ("set_id", "figure_id", "question_id")])


def chartqa(row: Row) -> Question:
    """ChartQA's test split (Masry et al. 2022), as lmms-lab/ChartQA: type (human_test or augmented_test),
    question, answer, image. Numbers are right within 5% of the gold. A row is known by its place."""
    kind = text(row, "type", "split")
    part = next((part for part in ("human", "augmented") if part in kind), "")
    if not part:
        raise RowError("value", f"column 'type' is {kind[:60]!r}, neither human nor augmented")
    return Question(
        id="",
        problem=IMAGE_TAG + text(row, "question"),
        answer=encode_answer(text(row, "answer"), tolerance=0.05),
        pictures=[cell(row, "image")],
        columns={"part": part},
    )


_DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine "
    "Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
    "Energy_and_Power Materials Mechanical_Engineering",
}
_DISCIPLINE_OF = {subject: name for name, subjects in _DISCIPLINES.items() for subject in subjects.split()}
_MMMU_ID = re.compile(r"[a-z]+_(\w+)_\d+")
_MMMU_MARK = r"<image (\d)>"


def mmmu(row: Row) -> Question:
    """MMMU/MMMU (Yue et al. 2024), its validation split: id, question, options, answer, question_type,
    image_1 to image_7.

    A picture stands where its mark is, in the question or an option, as often as it is marked. Pictures of
    the explanation alone are not shown.
    """
    name, kind = text(row, "id"), text(row, "question_type")
    subject = found[1] if (found := _MMMU_ID.fullmatch(name)) else ""
    if subject not in _DISCIPLINE_OF:
        raise RowError("value", f"the id {name[:60]!r} names no subject of MMMU")
    options = options_of(row, "options")
    if (one_of(kind, ("multiple-choice", "open"), "question_type") == "multiple-choice") != bool(options):
        raise RowError("choices", f"question_type is {kind}, and the row has {len(options)} options")
    problem, numbers = placed(below(text(row, "question"), options), _MMMU_MARK)
    if not numbers:
        problem, numbers = IMAGE_TAG + problem, [1]
    said = [
        re.sub(_MMMU_MARK, "", option).strip() or letter for letter, option in zip(LETTERS, options)
    ]  # a picture is called by its letter
    return Question(
        id=name,
        problem=problem,
        answer=letter_gold(text(row, "answer"), said) if options else encode_answer(texts(row, "answer")),
        pictures=[cell(row, f"image_{number}") for number in numbers],
        columns={
            "subject": subject.replace("_", " "),
            "discipline": _DISCIPLINE_OF[subject],
            "question_type": kind,
        },
    )
