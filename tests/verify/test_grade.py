"""Grading files: order, ids, counts, and errors that name the line."""

import json

import pytest

from gmpo_vl.verify.grade import grade_file, self_check, summary


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_verdicts_come_in_order_with_ids_and_counts(tmp_path):
    rows = [
        {"gold": 142.0, "response": r"\boxed{142}", "id": "a"},
        {"gold": ["1/2", "50"], "response": r"\boxed{50}", "benchmark": "minerva"},
        {"gold": "B", "response": "none", "id": 7},
        {"gold": "3", "response": r"\boxed{3 or 4}"},
    ]
    counts = grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["id"] for v in out] == ["a", 1, 7, 3]
    assert [v["outcome"] for v in out] == ["equal", "equal", "no_answer", "hedged"]
    assert set(out[0]) == {"id", "correct", "extracted", "gold_type", "outcome", "seconds"}
    assert counts["correct"] == 2
    assert summary(counts).startswith("2 of 4 correct (50.0%)")


def test_columns_that_grading_has_no_use_for_are_left_alone(tmp_path):
    rows = [{"gold": "5", "response": r"\boxed{5}", "correct": False, "label": 0, "meta": {"level": 3}}]
    counts = grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl")
    assert dict(counts) == {"equal": 1, "total": 1, "correct": 1}
    with pytest.raises(ValueError, match="overwrite"):
        grade_file(tmp_path / "pairs.jsonl", tmp_path / "pairs.jsonl")


def test_the_paper_profile_chooses_its_grader_by_benchmark(tmp_path):
    pair = {"gold": "0.50", "response": r"\boxed{\frac{1}{2}}"}
    rows = [{**pair, "benchmark": "geometry3k"}, {**pair, "benchmark": "math"}]
    grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl", "paper", workers=1)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(isinstance(v["correct"], bool) for v in out)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: no JSON"),
        ('{"gold": "5"}', "line 2: .*response"),
        ('{"gold": "", "response": "x"}', "line 2: .*empty"),
        ('{"gold": null, "response": "x"}', "line 2: the gold is None"),
        ('{"gold": {"a": 1}, "response": "x"}', "line 2: the gold is"),
        ('["5", "x"]', "line 2: .*a list"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"gold": "5", "response": "x"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        grade_file(path, tmp_path / "out.jsonl")


def test_self_check_lists_golds_that_do_not_verify(tmp_path):
    path = write(
        tmp_path / "rows.jsonl",
        [{"answer": "5"}, {"answer": r"\frac{1"}, {"answer": ""}, {"answer": ["1", "2"]}],
    )
    failures = self_check(path)
    assert [(row, gold) for row, gold, _ in failures] == [(1, r"\frac{1"), (2, "")]
    with pytest.raises(ValueError, match="no column"):
        self_check(write(tmp_path / "other.jsonl", [{"problem": "5"}]))


def test_fewer_than_no_workers_are_refused(tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", [{"gold": "1", "response": "1"}])
    with pytest.raises(ValueError, match="workers=-1"):
        grade_file(pairs, tmp_path / "out.jsonl", workers=-1)
    assert not (tmp_path / "out.jsonl").exists()
