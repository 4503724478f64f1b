"""`gmpo-vl eval import --protocol`: a benchmark's scores by our verdicts and by the harness's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS
from imports import lmms_file, lmms_line
from suite_folders import write_result

from gmpo_vl.evaluation.benchmarks import BENCHMARKS, write_benchmark
from gmpo_vl.evaluation.official import official_aggregates
from gmpo_vl.runs import EvaluationFolder

# Of We-Math's seven rows: a problem of two steps and one of three. What was answered, the harness's verdict.
SAID = [
    ("The answer is C", 1),
    ("Let me see.\nThe correct option is C. 3000, 4000", 0),  # the harness missed it: right here alone
    ("C", 1),
    ("A", 0),
    ("C", 1),
    ("C", 1),
    ("B", 1),  # the harness was wrong
]


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder with wemath.parquet and mathvista.parquet."""
    for name in ("wemath", "mathvista"):
        pq.write_table(pa.Table.from_pylist(ROWS[name]()), tmp_path / f"rows_{name}.parquet")
        write_benchmark(name, [str(tmp_path / f"rows_{name}.parquet")], tmp_path / "vision")
    return tmp_path / "vision"


def kit_file(path: Path, order: list[int]) -> Path:
    """We-Math as VLMEvalKit writes it: index is the row's number, ID and key name it."""
    rows = ROWS["wemath"]()
    lines = [
        {
            **{key: rows[i][key] for key in ("ID", "key", "question", "answer", "split")},
            "index": 1000 + i,
            **dict(zip("ABCDE", ["300, 400", "400, 300", "3000, 4000", "4000, 3000", "No correct answer"])),
            "prediction": SAID[i][0],
            "hit": SAID[i][1],
        }
        for i in order
    ]
    path.write_text(json.dumps(lines))
    return path


def imported(gmpo_vl, file: Path, out: Path, *options) -> tuple[str, EvaluationFolder]:
    said = gmpo_vl("eval", "import", file, "--out", out, *options)
    (folder,) = map(EvaluationFolder, out.glob("*-imported"))
    return said, folder


def test_wemath_of_vlmevalkit_is_scored_both_ways(gmpo_vl, data, tmp_path):
    file = kit_file(tmp_path / "Tiny_WeMath.json", [6, 2, 0, 1, 3, 4, 5])
    said, folder = imported(gmpo_vl, file, tmp_path / "out", "--protocol", "wemath", "--data", data)
    results = folder.results()
    assert results["questions"] == 7
    ours, theirs = results["aggregates"], results["official_aggregates"]
    assert ours.keys() == theirs.keys()
    # Here the first problem is mastered, and of the second a step and the whole are wrong; there the first
    # has a wrong step and a right whole, and so has the second.
    assert ours["score (strict)"]["value"] == 0.5
    assert ours["IK"]["value"] == 0.5
    assert theirs["score (strict)"]["value"] == 0
    assert theirs["score (loose)"]["value"] == 1
    assert theirs["RM (strict)"]["value"] == 1
    assert ours["step: one step"]["value"] == pytest.approx(4 / 5)
    assert "score  " not in said
    assert "score (strict)  50.0 [VLMEvalKit 0.0]" in said
    assert "one step 80.0 [VLMEvalKit 60.0]" in said
    assert "7 questions were answered, the protocol has 1,740" in said
    assert "the official score: the first letter behind the last word Answer" in said
    html = (folder.folder / "result.html").read_text()
    assert "by VLMEvalKit</th>" in html
    assert {r.id for r in folder.samples()} >= {"2steps_1/1", "2steps_1/multi", "3steps_7/3"}
    settings = results["settings"]
    assert (settings["protocol"], settings["aggregate"]) == ("wemath", "wemath")
    gmpo_vl("eval", "regrade", folder.folder, "--processes", "1")
    assert folder.results() == results


def test_lmms_eval_is_joined_by_place(gmpo_vl, data, tmp_path):
    lines = [lmms_line(i, "Which?", "C", answered, float(right)) for i, (answered, right) in enumerate(SAID)]
    file = lmms_file(tmp_path, lines, "wemath_testmini")
    said, folder = imported(gmpo_vl, file, tmp_path / "out", "--protocol", "wemath", "--data", data)
    assert "score (strict)  50.0 [lmms-eval 0.0]" in said
    assert folder.results()["aggregates"]["CM (loose)"]["value"] == 0.5
    assert folder.folder.name == "wemath_testmini-imported"


def test_questions_without_a_verdict_do_not_count_there(gmpo_vl, data, tmp_path):
    lines = [lmms_line(i, "Which?", "C", "C", 1.0) for i in range(7)]
    lines[6]["exact_match"] = None  # the second problem as a whole
    file = lmms_file(tmp_path, lines, "wemath_testmini")
    _, folder = imported(gmpo_vl, file, tmp_path / "out", "--protocol", "wemath", "--data", data)
    results = folder.results()
    assert results["aggregates"]["IK"]["units"] == 2
    assert results["official_aggregates"]["IK"]["units"] == 1


def test_a_question_with_one_answer_that_has_no_verdict_does_not_count_there(tmp_path):
    right = np.ones((3, 2), dtype=bool)
    records = list(write_result(tmp_path, "chartqa", right, [{"part": "human"}] * 3).samples())
    records = [replace(r, reward=r.reward | {"official": float(i != 2)}) for i, r in enumerate(records)]
    del records[5].reward["official"]
    shares = official_aggregates("chartqa", records, n=2)
    assert shares is not None
    assert shares["part: human"]["value"] == 0.75
    assert shares["part: human"]["units"] == 2


def test_mathvista_counts_by_the_columns_of_the_data(gmpo_vl, data, tmp_path):
    golds, answers = ("18", "4", "1.2", "[2014, 2016]", "18"), ("18", "4", "1.21", "2014, 2016", "B")
    lines = [
        {"index": i, "question": "Which?", "answer": gold, "prediction": said, "hit": 1}
        for i, (gold, said) in enumerate(zip(golds, answers), 1)
    ]
    (tmp_path / "MathVista_MINI.json").write_text(json.dumps(lines))
    options = ("--protocol", "mathvista", "--data", data / "mathvista.parquet")
    said, folder = imported(gmpo_vl, tmp_path / "MathVista_MINI.json", tmp_path / "out", *options)
    shares = folder.results()["aggregates"]
    assert shares["question_type: free_form"]["units"] == 3
    assert shares["question_type: multi_choice"]["value"] == 1
    assert "[VLMEvalKit 100.0]" in said


def test_a_row_of_another_question_is_left_out(gmpo_vl, data, tmp_path):
    lines = [lmms_line(i, "Which?", "C" if i else "B", "C", 1.0) for i in range(7)]
    file = lmms_file(tmp_path, lines, "wemath_testmini")
    _, folder = imported(gmpo_vl, file, tmp_path / "out", "--protocol", "wemath", "--data", data)
    assert folder.results()["settings"]["imported"]["left_out"] == {"another_answer": 1}
    assert folder.results()["aggregates"]["IK"]["units"] == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--protocol", "all_vision"], "is a suite: a file has one benchmark's answers"),
        (["--protocol", "gridworld", "--data", "x"], "games are played there, not answered"),
        (["--protocol", "wemaht"], "no protocol 'wemaht'"),
        (["--protocol", "wemath"], "vision_benchmarks.py NAME SOURCE data/vision` writes it"),
        (["--protocol", "wemath", "--data", "{mathvista}"], "aggregate wemath counts by the column"),
    ],
)
def test_what_cannot_be_counted_says_why(options, reason, gmpo_vl, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [option.format(mathvista=data / "mathvista.parquet") for option in options]
    file = lmms_file(tmp_path, [lmms_line(1, "Which?", "4", "4", 1.0)], "wemath_testmini")
    assert reason in gmpo_vl("eval", "import", file, "--out", tmp_path / "out", *options, code=2)


@pytest.mark.parametrize(
    ("benchmark", "columns", "name"),
    [
        ("wemath", {"id": "2steps_1", "key": "2steps_multi"}, "2steps_1/multi"),
        ("dynamath", {"qid": 17.0, "varid": "3"}, "17/3"),
        ("mathverse", {"sample_index": 42}, "42"),
        ("mathvista", {"pid": "7"}, "7"),
        (
            "hallusionbench",
            {"category": "VD", "l2-category": "math", "set_id": 0, "figure_id": 1, "question_id": 2},
            "VD_math_0_1_2",
        ),
    ],
)
def test_a_row_is_called_by_the_benchmark_s_own_columns(benchmark, columns, name):
    called = BENCHMARKS[benchmark].name
    assert called is not None
    assert called(columns) == name
