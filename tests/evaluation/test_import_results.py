"""An imported result is a result: compared, graded again, shown; and ours in lmms-eval's form."""

import json
from pathlib import Path

import pytest
from imports import ROWS, SHAPES, lmms_file, lmms_line

from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.verify import verify


@pytest.fixture
def imported(gmpo_vl, tmp_path) -> EvaluationFolder:
    gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out")
    return EvaluationFolder(tmp_path / "out" / "shapes-imported")


def test_importing_again_changes_nothing_and_another_file_is_refused(gmpo_vl, imported, tmp_path):
    before = {path.name: path.read_bytes() for path in imported.folder.glob("*.json*")}
    gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out")
    after = {path.name: path.read_bytes() for path in imported.folder.glob("*.json*")}
    assert {**before, "timing.json": b""} == {**after, "timing.json": b""}
    other = lmms_file(tmp_path, [lmms_line(*ROWS[0])])
    said = gmpo_vl("eval", "import", other, "--out", tmp_path / "out", code=2)
    assert "holds the result of another file" in said


def test_grading_again_keeps_the_harness_s_verdicts(gmpo_vl, imported):
    before = imported.results()
    records = list(imported.samples())
    imported.write_samples(
        type(r)(**{**vars(r), "correct": not r.correct, "outcome": "different"}) for r in records
    )
    said = gmpo_vl("eval", "regrade", imported.folder, "--processes", "1")
    assert "5 verdicts changed" in said
    assert list(imported.samples()) == records
    assert imported.results() == before


def test_the_page_counts_and_shows_what_is_disputed(gmpo_vl, imported):
    html = (imported.folder / "result.html").read_text()
    assert "Our verdicts and those of lmms-eval" in html
    assert "1 answers are right here alone, 1 there alone" in html
    assert html.count("graders disagree:") == 2
    assert "strict says right, official wrong" in html
    (imported.folder / "result.html").unlink()
    gmpo_vl("eval", "page", imported.folder)
    assert (imported.folder / "result.html").read_text() == html


def test_the_paper_s_tables_take_no_imported_result(gmpo_vl, imported):
    said = gmpo_vl("eval", "table", imported.folder, code=2)
    assert "none of these results belongs to a table" in said


def test_two_imports_are_paired_by_question(gmpo_vl, imported, tmp_path):
    better = [lmms_line(i, asked, right, right, 1.0) for i, asked, right, *_ in ROWS[:4]]
    gmpo_vl("eval", "import", lmms_file(tmp_path, better, "better"), "--out", tmp_path / "out")
    other = tmp_path / "out" / "better-imported"
    said = gmpo_vl("eval", "compare", "--a", imported.folder, "--b", other)
    assert "b - a: +25.0 points" in said
    assert "4 questions" in said
    assert "1 questions of" in said
    assert "sampling {'temperature': 0" in said
    said = gmpo_vl("eval", "compare", "--a", imported.folder, "--b", other, "--grader", "official")
    assert "b - a: +25.0 points" in said  # 3 of these 4 are right by the harness, too


def test_other_questions_are_not_compared(gmpo_vl, imported, tmp_path):
    others = [lmms_line(i, "How many?", str(90 + i), "9", 0.0) for i in range(5)]
    gmpo_vl("eval", "import", lmms_file(tmp_path, others, "others"), "--out", tmp_path / "out")
    sides = ["--a", imported.folder, "--b", tmp_path / "out" / "others-imported"]
    said = gmpo_vl("eval", "compare", *sides, code=2)
    assert "have another right answer" in said
    far = [lmms_line(100 + i, "How many?", "9", "9", 1.0) for i in range(3)]
    gmpo_vl("eval", "import", lmms_file(tmp_path, far, "far"), "--out", tmp_path / "out")
    sides[-1] = tmp_path / "out" / "far-imported"
    said = gmpo_vl("eval", "compare", *sides, code=2)
    assert "no question in common" in said


def answered_otherwise(whole: Path, folder: Path) -> EvaluationFolder:
    """The evaluation `whole`, as if a model had answered every third time rightly; graded."""
    from gmpo_vl.evaluation.grading import regrade_folder
    from gmpo_vl.verify import parse_gold

    ours, found = EvaluationFolder(whole), EvaluationFolder(folder)
    found.create()
    for name in ("plan.json", "results.json"):
        (folder / name).write_bytes((whole / name).read_bytes())

    def answer(record):
        right = parse_gold(record.gold).answers[0]
        text = f"So it is \\boxed{{{right}}}." if record.seed % 3 == 0 else "I do not know: \\boxed{-77}"
        return type(record)(**{**vars(record), "response": text})

    found.write_samples(map(answer, ours.samples()))
    regrade_folder(found, processes=1)
    return found


def test_an_export_imported_again_has_the_same_verdicts(gmpo_vl, whole, diagrams, tmp_path):
    own = answered_otherwise(whole, tmp_path / "own")
    path = tmp_path / "20260101_samples_diagrams.jsonl"
    gmpo_vl("eval", "export", own.folder, "--to", "lmms-eval", "--out", path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(lines[0])[:5] == ["doc_id", "target", "resps", "filtered_resps", "token_counts"]
    assert lines[0]["overall"] == [s.reward["overall"] for s in list(own.samples())[:3]]
    gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--grader", "paper")
    again = EvaluationFolder(tmp_path / "out" / "diagrams-imported")
    keys = ("id", "k", "response", "gold", "extracted", "correct", "outcome", "length")
    assert [[getattr(s, key) for key in keys] for s in again.samples()] == [
        [getattr(s, key) for key in keys] for s in own.samples()
    ]
    results = again.results()
    assert results["pass@1"] == own.results()["pass@1"] > 0
    assert results["official"]["only_ours_right"] == results["official"]["only_official_right"] == 0
    # and the two are compared by the ids of our rows
    said = gmpo_vl("eval", "compare", "--a", own.folder, "--b", again.folder)
    assert "b - a: +0.0 points" in said
    assert "asked here, temperature" in said


def test_one_answer_a_question_is_flat_as_lmms_eval_writes_it(gmpo_vl, imported, tmp_path):
    path = tmp_path / "samples_back.jsonl"
    gmpo_vl("eval", "export", imported.folder, "--out", path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["filtered_resps"] for line in lines] == [row[3] for row in ROWS]
    assert all("resps" not in line for line in lines)
    assert lines[0]["target"] == "B"
    assert lines[0]["gmpo_vl"]["id"] == "0"


@pytest.mark.parametrize(
    ("response", "read"),
    [
        ("\\boxed{5} or <answer>6</answer>", "5"),
        ("<think>the answer is 3</think>\n<answer>4</answer>", "4"),
        ("<think>the answer is 3</think>\nSo the answer is 4.", "4"),
        ("The correct option letter is B.", "B"),
        ("故选项为(D)。", "(D)"),
        ("**Answer:** B", "B"),
        ("12 cm", "12 cm"),
        ("I looked.\nI saw nothing.", None),
        ("I get \\boxed{3", None),
        ("", None),
    ],
)
def test_an_answer_is_read_wherever_it_stands(response, read):
    assert verify("B", response, answer_in="any").extracted == read


def test_a_long_response_states_its_answer_at_its_end():
    response = "We go on. " * 100_000 + "\nThe answer is 12."
    verdict = verify("12", response, answer_in="any")
    assert (verdict.correct, verdict.extracted) == (True, "12")
    assert verdict.seconds < 1
    assert verify("B", SHAPES, answer_in="any").outcome == "no_answer"
