"""Rows that lack a column, options that are pictures or equal, and answers that pandas made floats."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import encoded, picture

from gmpo_vl.data.convert import convert
from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import MappingFile
from gmpo_vl.data.rows import RowError
from gmpo_vl.verify import parse_gold, verify


def mapping(folder: Path, **values) -> MappingFile:
    return MappingFile(folder=folder, source="x", problem="q", answer="a", choices="o", **values)


def test_a_row_without_the_column_has_no_options_no_picture_and_no_id(tmp_path):
    rows = [{"q": "x?", "a": "B", "o": ["red", "blue"], "i": "n1", "c": 1, "p": []}, {"q": "y?", "a": "7"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = "problem: q\nanswer: a\nchoices: o\nimages: p\nid: i\ncarry: [c]\n"
    (tmp_path / "m.yaml").write_text(f"source: a.jsonl\n{keys}")
    card = convert(tmp_path / "m.yaml", tmp_path / "out")
    assert (card.splits["train"].rows, card.dropped) == (2, {})
    found = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert [(row["answer"][:7], row["id"], row["c"]) for row in found] == [
        ('{"gold"', "n1", 1),
        ("7", "a:1", None),
    ]


def test_options_that_are_pictures_are_shown_as_docs_say(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded(picture(ord(name))))
    row = {"question": "Which is like this?", "image": "a.png", "options": ["b.png", "c.png"], "answer": "B"}
    (tmp_path / "alike.jsonl").write_text(json.dumps(row))
    text = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    lines = re.search(r"```yaml\n(source: alike.jsonl\nimages: \[image, options\].*?)```", text, re.DOTALL)[1]
    (tmp_path / "m.yaml").write_text(lines)
    convert(tmp_path / "m.yaml", tmp_path / "out")
    (found,) = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert found["problem"] == "<image>Which is like this?\nA. <image>\nB. <image>"
    assert [Path(tmp_path, f"{n}.png").read_bytes() for n in "abc"] == [p["bytes"] for p in found["images"]]
    assert verify(found["answer"], "\\boxed{B}").correct


def test_an_empty_answer_and_equal_options_are_said(tmp_path):
    for empty in ("", " ", None, [], float("nan")):
        with pytest.raises(RowError, match="the answer is empty") as error:
            map_row({"q": "x?", "o": ["5", "6"], "a": empty}, mapping(tmp_path))
        assert error.value.reason == "empty_answer"
    for form in ("auto", "text"):
        with pytest.raises(RowError, match="the answer '5' is the text of 2 equal choices: A, B"):
            map_row({"q": "x?", "o": ["5", "5", "6"], "a": "5"}, mapping(tmp_path, answer_is=form))
    row = {"q": "x?", "o": ["5", "5", "6"], "a": "B"}
    assert parse_gold(map_row(row, mapping(tmp_path))["answer"]).alternatives == ("B",)


def test_a_whole_float_counts_unless_it_is_an_options_text(tmp_path):
    row = {"q": "x?", "o": ["0.5", "1.0", "1.5"], "a": "1.0"}
    assert parse_gold(map_row(row, mapping(tmp_path))["answer"]).alternatives == ("B",)
    labelled = {"q": "x?", "o": {"1": "red", "2": "green"}, "a": "2.0"}
    assert parse_gold(map_row(labelled, mapping(tmp_path))["answer"]).alternatives == ("B",)


@pytest.mark.parametrize("row", [{"i": "n7"}, {"i": 7.0}, {"i": None}, {}])
def test_a_dropped_row_is_named_by_file_number_and_its_own_id(row, tmp_path):
    rows = [{"q": "x?", "a": "1", "i": "n0"}, {"q": "x?", "a": "", **row}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "m.yaml").write_text("source: a.jsonl\nproblem: q\nanswer: a\nid: i\n")
    (fault,) = convert(tmp_path / "m.yaml", tmp_path / "out").faults
    own = {"n7": "n7", 7.0: "7"}.get(row.get("i"), "a:1")
    assert (Path(fault["file"]).name, fault["row"], fault["id"]) == ("a.jsonl", 1, own)
