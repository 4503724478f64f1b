"""A few rows of each benchmark in its public columns, made by hand."""

import base64
import io
from typing import Any

from PIL import Image

OPTION_OF_WEMATH = "A. 300, 400;B. 400, 300;C. 3000, 4000;D. 4000, 3000; E. No correct answer"
OF_HALLUSION = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id", "gt_answer")


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40 + shade % 3, 30), (shade % 256, 90, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def stored(shade: int) -> dict[str, Any]:
    return {"bytes": picture(shade), "path": None}


def _mathvision() -> list[dict]:
    same = {"image": "images/1.jpg", "level": 2, "subject": "arithmetic", "solution": None}
    return [
        {
            "id": "1",
            "question": "How many?\n<image1>",
            "options": [],
            "answer": "10",
            "decoded_image": stored(1),
            **same,
        },
        {
            "id": "2",
            "question": "<image1> Which one?",
            "options": ["<image2>", "<image3>"],
            "answer": "B",
            "decoded_image": stored(2),
            **same,
        },
        {
            "id": "3",
            "question": "How long is it?",
            "options": ["$\\frac12$", "2 cm", "3 cm"],
            "answer": "A",
            "decoded_image": stored(3),
            **same,
            "subject": "algebra",
            "level": 5,
        },
    ]


def _geometry3k_choices() -> list[dict]:
    return [
        {
            "images": [stored(i)],
            "problem": f"<image>Find x + {i}.",
            "choices": ["1", "2", "\\sqrt { 3 }", "4"],
            "ground_truth": letter,
        }
        for i, letter in enumerate("CAD")
    ]


def _geoqa() -> list[dict]:
    golds = ("140°", "3cm", "2√{15}米")
    return [
        {"image": stored(i), "question": f"Angle {i} is ( )", "ground_truth": g} for i, g in enumerate(golds)
    ]


def _mathvista() -> list[dict]:
    about = {"task": "figure question answering", "skills": ["algebraic reasoning", "arithmetic reasoning"]}
    kinds = [
        ("multi_choice", "text", ["12", "18", "20"], None, "18"),
        ("free_form", "integer", None, None, "4"),
        ("free_form", "float", None, 1.0, "1.2"),
        ("free_form", "list", None, None, "[2014, 2016]"),
        ("multi_choice", "text", ["9", "18", "18"], None, "18"),
    ]
    return [
        {
            "pid": str(i),
            "query": f"Hint: Please answer.\nQuestion: Which {i}?",
            "choices": choices,
            "unit": None,
            "precision": precision,
            "answer": answer,
            "question_type": kind,
            "answer_type": answer_type,
            "metadata": {**about, "skills": about["skills"][: 1 + i % 2]},
            "decoded_image": stored(i),
        }
        for i, (kind, answer_type, choices, precision, answer) in enumerate(kinds, 1)
    ]


def _mathverse() -> list[dict]:
    versions = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
    choices = "Choices:\nA:40°\nB:60°\nC:120°\nD:140°"
    rows = []
    for problem, (kind, question, answer) in enumerate(
        [("multi-choice", f"Angle CED is ()\n{choices}", "D"), ("free-form", "Find L.", "$=7$ cm")], 1
    ):
        for version in versions:
            shown = "the question in the image" if version == "Vision Only" else question
            rows.append(
                {
                    "sample_index": str(len(rows) + 1),
                    "problem_index": str(problem),
                    "problem_version": version,
                    "question": "" if version == "Vision Only" else question,
                    "question_for_eval": question,
                    "query_wo": shown,
                    "query_cot": f"Please first conduct reasoning. Question: {shown}",
                    "answer": answer,
                    "question_type": kind,
                    "image": stored(len(rows)),
                    "metadata": {"split": "testmini", "subject": "Plane Geometry", "subfield": "Angle"},
                }
            )
    return rows


def _wemath() -> list[dict]:
    keys = [("2steps_1", key) for key in ("2steps_1", "2steps_2", "2steps_multi")]
    keys += [("3steps_7", key) for key in ("3steps_1", "3steps_2", "3steps_3", "3steps_multi")]
    return [
        {
            "ID": problem,
            "split": "testmini",
            "knowledge concept": "Area of Circles",
            "key": key,
            "question": f"OA = ( ) m {i}",
            "option": OPTION_OF_WEMATH,
            "answer": "C",
            "image_path": stored(i),
            "question number": i,
        }
        for i, (problem, key) in enumerate(keys)
    ]


def _hallusionbench() -> list[dict]:
    places = [
        ("VS", "chart", "0", "0", "0", "0", "0"),
        ("VS", "chart", "1", "0", "1", "0", "1"),
        ("VS", "chart", "1", "0", "1", "1", "0"),
        ("VD", "illusion", "1", "0", "0", "0", "1"),
        ("VD", "illusion", "2", "0", "1", "0", "0"),
    ]
    return [
        dict(zip(OF_HALLUSION, place))
        | {"question": f"Is {i} larger?", "image": stored(i) if place[2] != "0" else None}
        for i, place in enumerate(places)
    ]


def _logicvista() -> list[dict]:
    golds = [("C", "Which comes next?"), ("A, C", "Which choices (A-D)?")]
    golds += [("B", "Is it? (A) True (B) False (C) Open"), ("3", "Select from 1-5"), ("", "")]
    return [
        {
            "imagename": f"v1_{i}.png",
            "question": question,
            "answer": answer,
            "skill": ["inductive"],
            "broad_capability": ["diagram"],
            "image": stored(i),
        }
        for i, (answer, question) in enumerate(golds)
    ]


def _dynamath() -> list[dict]:
    kinds = [
        ("float", "What is the period of y = sin(3x)?", "2.0944"),
        ("text", "Which month?", "Sep"),
        ("multiple choice", "Is it even or odd? choice: (A) even (B) odd", "B"),
    ]
    return [
        {
            "index": f"{qid}.{varid}",
            "question": question,
            "image": base64.b64encode(picture(varid)).decode(),
            "answer": answer,
            "answer_type": kind,
            "subject": "algebra",
            "knowledge_level": "high school",
            "varid": varid,
            "qid": qid,
        }
        for varid in range(1, 11)
        for qid, (kind, question, answer) in enumerate(kinds, 1)
    ]


def _chartqa() -> list[dict]:
    rows = [("human_test", "57"), ("augmented_test", "Canada"), ("human_test", "Yes")]
    return [
        {"type": kind, "question": f"What {i}?", "answer": answer, "image": stored(i)}
        for i, (kind, answer) in enumerate(rows)
    ]


def _mmmu() -> list[dict]:
    pictures: dict[str, Any] = {f"image_{i}": None for i in range(1, 8)}
    row = {"explanation": "", **pictures, "image_1": stored(1)}
    return [
        {
            **row,
            "id": "validation_Art_Theory_1",
            "question": "<image 1> is by whom?",
            "answer": "A",
            "options": "['Bosch', \"the 'other'\"]",
            "question_type": "multiple-choice",
        },
        {
            **row,
            "id": "validation_Math_2",
            "question": "Which of <image 2> and <image 1>?",
            "image_2": stored(2),
            "image_3": stored(9),
            "options": "['<image 1>', '<image 2>']",
            "answer": "B",
            "question_type": "multiple-choice",
        },
        {
            **row,
            "id": "validation_Music_3",
            "question": "How many bars?",
            "options": "[]",
            "answer": "['8', 'eight']",
            "question_type": "open",
        },
    ]


ROWS = {
    "mathvision": _mathvision,
    "mathvision_testmini": _mathvision,
    "geometry3k_choices": _geometry3k_choices,
    "geoqa": _geoqa,
    "mathvista": _mathvista,
    "mathverse": _mathverse,
    "wemath": _wemath,
    "hallusionbench": _hallusionbench,
    "logicvista": _logicvista,
    "dynamath": _dynamath,
    "chartqa": _chartqa,
    "mmmu": _mmmu,
}
