"""Answers that count the choices the other way than `answer_is` says are refused before a row is written."""

import json
from pathlib import Path

import pytest

from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError
from gmpo_vl.verify import parse_gold

OPTIONS = ["ant", "bee", "cow"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(answers: list, form: str, more: str = "", **columns) -> None:
    rows = [{"q": f"What is {i}?", "o": OPTIONS, "a": a, **columns} for i, a in enumerate(answers)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = f"source: a.jsonl\nproblem: q\nanswer: a\nchoices: o\nanswer_is: {form}\n{more}"
    Path("m.yaml").write_text(lines)


@pytest.mark.parametrize("zero", [0, "0", 0.0, "0.0", [0], "[0]"])
def test_a_0_is_no_number_from_1(zero):
    written([1, 2, zero, 1], "number")
    with pytest.raises(DataError, match=r"the answer \S+ of a\.jsonl, row 2 is 0, .*`answer_is: index`"):
        convert("m.yaml", "out")
    assert not Path("out/train.parquet").exists()


@pytest.mark.parametrize("last", [3, "3", 3.0, "[3]"])
def test_the_number_of_the_choices_is_no_index_from_0(last):
    written([1, 2, last], "index")
    with pytest.raises(DataError, match=r"row 2 is the number of its choices, .*`answer_is: number`"):
        convert("m.yaml", "out")


@pytest.mark.parametrize(("form", "answers"), [("index", [0, 1, 2]), ("number", [1, 2, 3])])
def test_answers_that_count_as_the_mapping_says_are_written(form, answers):
    written(answers, form)
    assert convert("m.yaml", "out").dropped == {}
    golds = [parse_gold(e.answer).alternatives for e in load_examples("out/train.parquet")]
    assert golds == [("A",), ("B",), ("C",)]


@pytest.mark.parametrize(("form", "answers"), [("index", [3, 0, 1]), ("number", [0, 3, 1])])
def test_a_wrong_row_among_rows_that_prove_the_count_is_dropped_alone(form, answers):
    written(answers, form)
    card = convert("m.yaml", "out")
    assert (card.dropped, card.splits["train"].rows) == ({"answer_choice": 1}, 2)


def test_rows_that_are_left_out_and_rows_without_choices_prove_nothing():
    written([0, 1, 2], "number", "keep: a > 0\n")
    assert convert("m.yaml", "out").splits["train"].rows == 2
    rows = [{"q": "How many?", "a": 0}, {"q": "Which?", "o": OPTIONS, "a": 1}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("m.yaml").write_text("source: a.jsonl\nproblem: q\nanswer: a\nchoices: o\nanswer_is: number\n")
    assert convert("m.yaml", "out2").splits["train"].rows == 2


def test_one_split_proves_it_for_all():
    for split, answers in (("train", [1, 2]), ("test", [2, 0])):
        rows = [{"q": f"{split} {i}?", "o": OPTIONS, "a": a} for i, a in enumerate(answers)]
        Path(f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = "source: {train: train.jsonl, test: test.jsonl}"
    Path("m.yaml").write_text(f"{source}\nproblem: q\nanswer: a\nchoices: o\nanswer_is: number\n")
    with pytest.raises(DataError, match=r"m\.yaml: answer_is: number .*test\.jsonl, row 1 is 0"):
        convert("m.yaml", "out")
