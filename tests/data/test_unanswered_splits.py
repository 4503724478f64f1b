"""A split whose answers are not told is left out, and said; the others are converted and evaluated on."""

import json
from pathlib import Path

import pytest
import yaml

from gmpo_vl.cli import main
from gmpo_vl.data.convert import convert
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.sources import say_once
from gmpo_vl.data.start.write import write_start

CHOICES = ["red", "green", "blue"]
UNTOLD = {
    "null": {"answer": None},
    "empty": {"answer": " "},
    "no column": {},
    "hidden": {"answer": "hidden"},
    "question mark": {"answer": "?"},
    "no list": {"answer": []},
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    say_once.cache_clear()  # other tests have files of these names, too


def write(path: str, rows: list[dict]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(map(json.dumps, rows)))
    return path


def rows(split: str, **more) -> list[dict]:
    return [{"question": f"{split} {i}?", "options": CHOICES, **more} for i in range(6)]


def told(split: str) -> list[dict]:
    return [{**row, "answer": CHOICES[i % 3]} for i, row in enumerate(rows(split))]


def evaluated() -> str:
    return yaml.safe_load(Path("mine_eval.yaml").read_text())["data"]


@pytest.mark.parametrize("untold", UNTOLD)
def test_a_test_split_without_answers_is_left_out(untold, capsys):
    write("set/train.jsonl", told("train"))
    write("set/val.jsonl", told("val"))
    write("set/test.jsonl", rows("test", **UNTOLD[untold]))
    assert main(["data", "new", "mine", "--source", "set"]) == 0
    assert "LEFT OUT: test, of which no row has an answer in 'answer'" in capsys.readouterr().out
    assert evaluated() == "data/mine/validation.parquet"
    assert list(convert("mine.yaml", "out").splits) == ["train", "validation"]
    body = "problem: question\nanswer: answer\nchoices: options\n"
    Path("own.yaml").write_text(f"source: {{train: set@train, test: set@test}}\n{body}")
    assert main(["data", "convert", "own.yaml", "own"]) == 0
    note = "test.parquet is not written: no row of the split test (set@test) has an answer in 'answer'"
    assert f"WARNING: {note}" in capsys.readouterr().err
    assert note in json.loads(Path("own/data_card.json").read_text())["notes"][0]
    assert sorted(path.name for path in Path("own").iterdir()) == ["data_card.json", "train.parquet"]


@pytest.mark.parametrize("answer", ["", "hidden"])
def test_a_split_of_a_column_without_answers_is_left_out(answer, capsys):
    mixed = [{**row, "split": split} for split in ("train", "dev") for row in told(split)]
    mixed += [{**row, "split": "test", "answer": answer} for row in rows("test")]
    start = write_start("mine", write("a.jsonl", mixed))
    assert "LEFT OUT: test" in next(guess.why for guess in start.guesses if guess.key == "split_column")
    assert evaluated() == "data/mine/validation.parquet"
    assert list(convert("mine.yaml", "out").splits) == ["train", "validation"]
    assert "of the split test" in capsys.readouterr().err


def test_one_answer_is_enough_and_train_is_never_left_out():
    write("train.jsonl", told("train"))
    write("test.jsonl", [*rows("test", answer=None), *told("more")[:1]])
    body = "problem: question\nanswer: answer\n"
    Path("m.yaml").write_text(f"source: {{train: train.jsonl, test: test.jsonl}}\n{body}")
    assert convert("m.yaml", "out").splits["test"].rows == 1
    Path("m.yaml").write_text(f"source: {{train: test.jsonl, test: train.jsonl}}\n{body}")
    write("test.jsonl", rows("test", answer=None))
    with pytest.raises(DataError, match=r"split train \(test\.jsonl\): no row is left for train\.parquet"):
        convert("m.yaml", "other")
    Path("m.yaml").write_text("source: train.jsonl\nproblem: question\nanswer: anser\n")
    with pytest.raises(DataError, match="no column 'anser'; did you mean answer"):
        convert("m.yaml", "other")


def test_a_set_without_train_rows_keeps_its_test_rows_for_evaluation():
    write("set/val.jsonl", told("val"))
    write("set/test.jsonl", told("test"))
    write_start("mine", "set")
    assert evaluated() == "data/mine/test.parquet"
    assert convert("mine.yaml", "out").splits["test"].rows == 6


def test_the_part_of_a_split_is_taken_whose_answers_are_told():
    """MathVista: test, and testmini with answers."""
    write("set/test.jsonl", rows("test", answer=""))
    write("set/testmini.jsonl", told("mini"))
    start = write_start("mine", "set")
    source = next(guess for guess in start.guesses if guess.key == "source")
    assert source.value == {"train": "set@testmini"}
    assert "the answers of the other files are not told" in source.why
    assert start.asks == []
    write("set/testmini.jsonl", rows("mini", answer=""))
    assert write_start("other", "set").asks == ["answer"]


def test_answers_that_are_withheld_in_every_row_are_no_golds():
    start = write_start("mine", write("a.jsonl", rows("a", answer="?")))
    assert start.asks == ["answer"]
    assert "'answer' is '?' in every row: the answers are withheld" in str(start.guesses)
