"""MATH-Vision, MathVista, MathVerse, We-Math and DynaMath: a row of each in its public columns."""

from __future__ import annotations

import math
import re

from gmpo_vl.data.answers import LETTERS, encode_answer
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.evaluation.aggregates import BETWEEN, MATHVERSE_VERSIONS
from gmpo_vl.evaluation.benchmarks.questions import (
    Question,
    Row,
    below,
    cell,
    fields,
    letter_gold,
    lettered_options,
    one_of,
    options_of,
    text,
    texts,
    whole,
)

_MARK = re.compile(r"<image\d*>")


def mathvision(row: Row) -> Question:
    """MathLLMs/MathVision (Wang et al. 2024): id, question, options, answer, level, subject, and
    decoded_image (or image, a path, as in the repository's data/*.jsonl).

    A row has one picture, which shows all that its marks `<image1>`, `<image2>` speak of: it goes in front.
    """
    options = [
        letter if _MARK.fullmatch(option) else option
        for letter, option in zip(LETTERS, options_of(row, "options"))
    ]
    asked = re.sub(r"[ \t]+", " ", _MARK.sub("", text(row, "question"))).strip()
    asked = asked or "Answer the question that the picture shows."  # of one row
    answer = text(row, "answer")
    return Question(
        id=text(row, "id"),
        problem=IMAGE_TAG + below(asked, options),
        answer=letter_gold(answer, options) if options else encode_answer(answer),
        pictures=[cell(row, "decoded_image", "image")],
        columns={"subject": text(row, "subject"), "level": text(row, "level")},
    )


_ANSWER_TYPES = ("text", "integer", "float", "list")


def mathvista(row: Row) -> Question:
    """AI4Math/MathVista (Lu et al. 2024): pid, query, choices, precision, answer, question_type, answer_type,
    metadata, decoded_image. `query` is the official prompt: a hint, the question, its unit and choices.

    The answer to a choice is its text. A float stands for every value that rounds to it, as officially.
    """
    kind = one_of(text(row, "question_type"), ("multi_choice", "free_form"), "question_type")
    answer_type, answer = one_of(text(row, "answer_type"), _ANSWER_TYPES, "answer_type"), text(row, "answer")
    options = options_of(row, "choices")
    if (kind == "multi_choice") != bool(options):
        raise RowError("choices", f"question_type is {kind}, and the row has {len(options)} choices")
    if options:
        if answer not in options:
            raise RowError("answer_choice", f"the answer {answer[:60]!r} is none of the choices")
        letters = [letter for letter, option in zip(LETTERS, options) if option == answer]  # of one row two
        gold = encode_answer(letters, type="choice", choices=options)
    elif answer_type == "float":
        gold = encode_answer(f"{_number(answer):.{int(whole(row, 'precision'))}f}", type="rounded")
    else:
        gold = encode_answer(answer)
    metadata = fields(row, "metadata")
    return Question(
        id=mathvista_name(row),
        problem=IMAGE_TAG + text(row, "query"),
        answer=gold,
        pictures=[cell(row, "decoded_image", "image")],
        columns={
            "question_type": kind,
            "answer_type": answer_type,
            "task": text(metadata, "task"),
            "skills": BETWEEN.join(texts(metadata, "skills")),
        },
    )


def _number(said: str) -> float:
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RowError("answer_type", f"the answer {said[:60]!r} is no number, though its type is float")
    return number


def mathverse(row: Row) -> Question:
    """MathVerse (Zhang et al. 2024), AI4Math/MathVerse or CaraJ/MathVerse-lmmseval: sample_index,
    problem_index, problem_version, question_for_eval, query_cot, answer, question_type, metadata, image.

    `query_cot` is the official prompt for reasoning; in the version Vision Only the question stands in the
    picture, and `question_for_eval` has its options.
    """
    version = one_of(text(row, "problem_version"), (*MATHVERSE_VERSIONS, "Text Only"), "problem_version")
    kind = one_of(text(row, "question_type"), ("multi-choice", "free-form"), "question_type")
    answer = text(row, "answer").replace("\u63b3", "\u00b0")  # a degree sign, as GBK misreads it
    answer = re.sub(r"^(\$?)\s*=", r"\1", re.sub(r"^\(([A-Z])\)$", r"\1", answer))
    options = lettered_options(text(row, "question_for_eval")) if kind == "multi-choice" else []
    is_letter = kind == "multi-choice" and re.fullmatch(r"[A-Z](?:\n[A-Z])*", answer)
    known = options if answer in options else None  # four answers to choices are the text of one
    metadata = fields(row, "metadata")
    return Question(
        id=mathverse_name(row),
        problem=IMAGE_TAG * (version != "Text Only") + text(row, "query_cot"),
        answer=letter_gold(answer, options) if is_letter else encode_answer(answer, choices=known),
        pictures=[] if version == "Text Only" else [cell(row, "image")],
        columns={
            "problem_id": whole(row, "problem_index"),
            "version": version,
            "subject": text(metadata, "subject"),
            "question_type": kind,
        },
    )


def mathverse_name(row: Row) -> str:
    return text(row, "sample_index")


def mathvista_name(row: Row) -> str:
    return text(row, "pid")


_KEY = re.compile(r"([23])steps_([123]|multi)")
_WORDS = {"2": "two steps", "3": "three steps"}


def wemath(row: Row) -> Question:
    """We-Math/We-Math (Qiao et al. 2024): ID, key, question, option, answer, image_path, "knowledge concept".

    Rows of the same ID are a problem's steps, and the problem as a whole (key `2steps_multi`).
    """
    problem, key = text(row, "ID"), text(row, "key")
    if (said := _KEY.fullmatch(key)) is None or (said[2] != "multi" and said[2] > said[1]):
        raise RowError("value", f"key is {key[:60]!r}, not 2steps_1, 3steps_multi or the like")
    if not problem.startswith(f"{said[1]}steps"):
        raise RowError("value", f"key is {key!r}, and the ID {problem[:60]!r} has another number of steps")
    option = text(row, "option")
    return Question(
        id=wemath_name(row),
        problem=f"{IMAGE_TAG}{text(row, 'question')}\n{option}",
        answer=letter_gold(text(row, "answer"), lettered_options(option)),
        pictures=[cell(row, "image_path", "image")],
        columns={
            "problem_id": problem,
            "part": said[2],
            "steps": said[1],
            "step": _WORDS[said[1]] if said[2] == "multi" else "one step",
            "concept": text(row, "knowledge concept"),
        },
    )


def wemath_name(row: Row) -> str:
    """`2steps_1/multi` of a row with ID and key."""
    return f"{text(row, 'ID', 'id')}/{text(row, 'key').rpartition('_')[2]}"


def dynamath_name(row: Row) -> str:
    """`17/3`: question and variant."""
    return f"{whole(row, 'qid')}/{whole(row, 'varid')}"


_DYNAMATH_TYPES = ("float", "multiple choice", "text")


def dynamath(row: Row) -> Question:
    """DynaMath (Zou et al. 2024) as VLMEvalKit's DynaMath.tsv: index, question, image, answer, answer_type,
    subject, knowledge_level, varid, qid: ten variants of each question.

    A float is asked to three decimals, and stands for every value that rounds to it.
    """
    kind = one_of(text(row, "answer_type"), _DYNAMATH_TYPES, "answer_type")
    asked, answer = text(row, "question"), text(row, "answer")
    if kind == "float":
        gold = encode_answer(f"{_number(answer):.3f}", type="rounded")
        asked += "\nGive the answer as a number with three decimals."
    elif kind == "multiple choice":
        gold = letter_gold(answer, lettered_options(asked))
    else:
        gold = encode_answer(answer)
    return Question(
        id=dynamath_name(row),
        problem=IMAGE_TAG + asked,
        answer=gold,
        pictures=[cell(row, "image")],
        columns={
            "question_id": whole(row, "qid"),
            "variant": whole(row, "varid"),
            "subject": text(row, "subject"),
            "level": text(row, "knowledge_level"),
            "answer_type": kind,
        },
    )
