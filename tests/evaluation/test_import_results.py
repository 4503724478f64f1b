"""An imported result is a result: compared, graded again, shown; and ours in lmms-eval's form."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grader", "paper"], "protocol.grader is strict there and paper now"),
        (["--official", "none"], "protocol.imported.official is exact_match there and None now"),
        (["--data", "{rows}"], "are others than those of the result in that folder: the rows of --data"),
    ],
)
def test_another_way_to_import_does_not_take_the_place_of_a_result(
    gmpo_vl, imported, tmp_path, options, said
):
    rows = [{"problem": asked, "answer": right + ".0"} for _, asked, right, *_ in ROWS[2:]]
    rows = [{"problem": asked, "answer": right} for _, asked, right, *_ in ROWS[:2]] + rows
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    options = [option.format(rows=tmp_path / "rows.parquet") for option in options]
    before = {path.name: path.read_bytes() for path in imported.folder.glob("*.json*")}
    told = gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out", *options, code=2)
    assert said in told
    assert {path.name: path.read_bytes() for path in imported.folder.glob("*.json*")} == before
    gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out", "--name", "other", *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grader-options", "{{tolerance: 0.1}}"], "the grader strict takes none"),
        (["--grader", "paper", "--grader-options", "{{tolerance: 0.1}}"], "the grader paper takes none"),
        (["--name", ""], "no folder can be called so"),
        (["--grader", "choice"], "reads an answer in \\boxed{{}} or <answer> alone, and 3 of the first 5"),
    ],
)
def test_options_that_would_do_nothing_are_refused(gmpo_vl, tmp_path, options, said):
    options = [option.replace("{{", "{").replace("}}", "}") for option in options]
    said = said.replace("{{", "{").replace("}}", "}")
    assert said in gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out", *options, code=2)
    assert not list((tmp_path / "out").glob("*/results.json"))


def test_a_reward_says_where_it_reads(gmpo_vl, tmp_path):
    lines = [
        lmms_line(i, "How many?", "4", said, 1.0) for i, said in enumerate(["\\boxed{4}", "\\boxed{4}", "4"])
    ]
    gmpo_vl("eval", "import", lmms_file(tmp_path, lines), "--out", tmp_path / "out", "--grader", "math")
    results = EvaluationFolder(tmp_path / "out" / "shapes-imported").results()
    assert results["pass@1"] == pytest.approx(2 / 3)
    assert any("1 answers have neither \\boxed{} nor <answer>" in note for note in results["notes"])


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
    assert "official" not in results  # all verdicts in the file are our own
    assert results["backend"]["name"] == "gmpo-vl"
    # and the two are compared by the ids of our rows
    said = gmpo_vl("eval", "compare", "--a", own.folder, "--b", again.folder)
    assert "b - a: +0.0 points" in said
    assert "asked here, temperature" in said


def exported(gmpo_vl, tmp_path, *options) -> Path:
    """An import's result in lmms-eval's form. 102 for 100 is right within 5 %."""
    lines = [
        lmms_line(0, "How much?", "100", "\\boxed{102}", 0.0),
        lmms_line(1, "And?", "7", "\\boxed{7}", 0.0),
    ]
    gmpo_vl("eval", "import", lmms_file(tmp_path, lines), "--out", tmp_path / "out", *options)
    path = tmp_path / "samples_ours.jsonl"
    gmpo_vl("eval", "export", tmp_path / "out", "--out", path)  # the one result in it
    return path


NUMERIC = ("--grader", "numeric", "--grader-options", "{tolerance: 0.05}")


def test_an_export_keeps_its_reward_and_the_harness_s_verdicts(gmpo_vl, tmp_path):
    path = exported(gmpo_vl, tmp_path, *NUMERIC)
    gmpo_vl("eval", "import", path, "--out", tmp_path / "again")
    results = EvaluationFolder(tmp_path / "again" / "ours-imported").results()
    assert results["pass@1"] == 1
    assert (results["settings"]["grader"], results["settings"]["grader_options"]) == (
        "numeric",
        {"tolerance": 0.05},
    )
    assert (results["official"]["value"], results["official"]["only_ours_right"]) == (0, 2)
    assert results["backend"]["name"] == "lmms-eval"
    gmpo_vl("eval", "import", path, "--out", tmp_path / "other", "--grader", "strict")
    assert EvaluationFolder(tmp_path / "other" / "ours-imported").results()["pass@1"] == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grader": "evil.py:f"}, "was graded by 'evil.py:f', which is not taken from a file"),
        (
            {"grader": "judge", "grader_options": {"base_url": "http://evil"}},
            "which is not taken from a file",
        ),
        ({"answer_in": "everywhere"}, "gmpo_vl.answer_in is 'everywhere', and must be one of box, tag, any"),
        ({"template": "../x"}, "gmpo_vl.template is '../x'"),
        ({"benchmark": 3}, "gmpo_vl.benchmark is 3, and must be a text"),
        ({"grader": "strict", "grader_options": {"a": 1}}, "the grader strict takes none"),
    ],
)
def test_what_an_export_says_of_its_grader_is_checked(gmpo_vl, tmp_path, changes, said):
    path = exported(gmpo_vl, tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps({**line, "gmpo_vl": line["gmpo_vl"] | changes}) + "\n" for line in lines)
    )
    told = gmpo_vl("eval", "import", path, "--out", tmp_path / "again", code=2)
    assert said in told
    assert str(path) in told


def test_an_id_that_comes_again_is_left_out(gmpo_vl, tmp_path):
    path = exported(gmpo_vl, tmp_path)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    others = {**second, "doc_id": 3, "gmpo_vl": second["gmpo_vl"] | {"answer_in": "tag"}}
    second["gmpo_vl"]["id"] = first["gmpo_vl"]["id"]
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, second, others)))
    gmpo_vl("eval", "import", path, "--out", tmp_path / "again")
    results = EvaluationFolder(tmp_path / "again" / "ours-imported").results()
    assert results["questions"] == 1
    assert results["settings"]["imported"]["left_out"] == {"repeated": 1, "another_export": 1}


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
        ("<think>Perhaps the answer is A", None),  # cut off in its thought
        ("<think>It is A.</think> The answer is B. <think>Or is the answer C", None),
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


def test_the_hash_of_the_data_is_of_ids_questions_and_golds(gmpo_vl, tmp_path):
    changes = [{}, {"input": "Is it?"}, {"target": "5"}, {"doc_id": 9}, {"filtered_resps": "5"}]
    hashes = []
    for i, change in enumerate(changes):
        file = lmms_file(tmp_path, [lmms_line(0, "How many?", "4", "4", 1.0) | change])
        gmpo_vl("eval", "import", file, "--out", tmp_path / str(i))
        hashes.append(EvaluationFolder(tmp_path / str(i) / "shapes-imported").results()["data"]["sha256"])
    assert len(set(hashes[:4])) == 4
    assert hashes[4] == hashes[0]  # what was answered is none of the data


def test_errors_of_a_harness_are_counted(gmpo_vl, tmp_path):
    said = [
        "Error: no such model",
        "[FAILED] after 3 tries",
        "Failed to obtain answer via API.",
        "An Error: 4",
        "4",
    ]
    file = lmms_file(tmp_path, [lmms_line(i, "How many?", "4", text, 0.0) for i, text in enumerate(said)])
    gmpo_vl("eval", "import", file, "--out", tmp_path / "out")
    results = EvaluationFolder(tmp_path / "out" / "shapes-imported").results()
    assert results["settings"]["imported"]["failed"] == 3


def test_a_file_whose_rows_have_other_numbers_of_answers_is_refused(gmpo_vl, tmp_path):
    lines = [lmms_line(0, "How many?", "4", "4", 1.0)]
    lines += [lmms_line(i, "How many?", "4", ["4", "5"], [1.0, 0.0]) for i in (1, 2)]
    said = gmpo_vl("eval", "import", lmms_file(tmp_path, lines), "--out", tmp_path / "out", code=2)
    assert "the first row has 1 answers, and 2 of 3 rows have another number" in said


def test_a_suite_is_no_protocol_to_show(gmpo_vl):
    assert "all_vision is a suite, of " in gmpo_vl("eval", "protocols", "all_vision")


def test_a_total_that_is_no_number_is_not_taken(gmpo_vl, tmp_path):
    file = lmms_file(tmp_path)
    beside = file.with_name("20260101_120000_results.json")
    beside.write_text(beside.read_text().replace("0.6", "NaN"))
    gmpo_vl("eval", "import", file, "--out", tmp_path / "out")
    written = (tmp_path / "out" / "shapes-imported" / "results.json").read_text()
    assert "NaN" not in written
    assert "stated" not in json.loads(written)["settings"]["imported"]
