"""`gmpo-vl eval import` of lmms-eval's sample files: what is read, graded, left out and refused."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imports import ROWS, SHAPES, lmms_file, lmms_line

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.evaluation.imported.rows import without_secrets
from gmpo_vl.runs import EvaluationFolder


@pytest.fixture
def imported(gmpo_vl, tmp_path):
    """Import a file: (results, samples, what was printed)."""

    def run(path: Path, *options) -> tuple[dict, list, str]:
        known = set((tmp_path / "out").glob("*"))
        said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", *options)
        (place,) = set((tmp_path / "out").glob("*")) - known
        folder = EvaluationFolder(place)
        return folder.results(), list(folder.samples()), said

    return run


def test_answers_are_graded_again_and_the_harness_s_verdicts_kept(imported, tmp_path):
    results, samples, said = imported(lmms_file(tmp_path))
    assert [s.correct for s in samples] == [True, True, True, False, False]
    assert [s.reward["official"] for s in samples] == [row[-1] for row in ROWS]
    assert [s.extracted for s in samples] == ["B", "B", "4", None, "7"]
    assert results["name"] == "shapes-imported"
    assert results["pass@1"] == pytest.approx(0.6)
    official = results["official"]
    assert (official["value"], official["ours"]) == (pytest.approx(0.6), pytest.approx(0.6))
    assert (official["only_ours_right"], official["only_official_right"]) == (1, 1)
    assert official["difference"]["value"] == pytest.approx(0)
    low, high = official["difference"]["ci95"]
    assert low < 0 < high  # paired by question: one each way
    assert results["mean_length"] == 7
    assert "own verdicts (exact_match) 60.0, its own file says 60.0; here 60.0" in said
    assert "right here alone 1, there alone 1" in said


def test_what_the_file_states_is_in_the_protocol_without_secrets(imported, tmp_path):
    path = lmms_file(tmp_path)
    results, _, _ = imported(path)
    facts = results["settings"]["imported"]
    assert facts["harness"] == "lmms-eval"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts["task"], facts["model"]) == ("shapes", "org/tiny")
    assert facts["sampling"] == {"temperature": 0, "max_new_tokens": 16}
    assert facts["model_args"] == "pretrained=org/tiny,api_key=..."
    assert "abcdef" not in json.dumps(results)
    assert results["model"]["path"] == "org/tiny"
    assert any("no protocol's of ours" in note for note in results["notes"])


def test_options_come_from_the_prompt_a_metric_or_the_older_doc(imported, tmp_path):
    judged = {"true_false": True, "choices": ["3 cm", "5 cm"], "extraction": "5 cm", "answer_type": "text"}
    lines = [
        lmms_line(0, SHAPES, "B", "square", 1.0),
        lmms_line(1, SHAPES, "square", "C", 0.0),
        {**lmms_line(2, "How long is it?", "5 cm", "(B) 5 cm", None), "exact_match": judged},
        {**lmms_line(3, "Pick.", "A", "B", 0.0), "doc": {"options": "['red', 'blue']"}},
    ]
    results, samples, _ = imported(lmms_file(tmp_path, lines), "--official", "exact_match")
    assert [s.correct for s in samples] == [True, False, True, False]
    assert [s.gold_type for s in samples] == ["choice"] * 4
    assert samples[2].meta["answer_type"] == "text"
    assert results["official"]["value"] == pytest.approx(0.5)


def test_several_answers_a_row_are_samples(imported, tmp_path):
    lines = [
        {
            **lmms_line(i, "How many?", "3", None, [1.0, 0.0, 1.0]),
            "resps": [["\\boxed{3}"], ["\\boxed{4}"], ["3"]],
            "filtered_resps": ["3", "4", "3"],
            "token_counts": [{"output_tokens": k} for k in (1, 2, 3)],
        }
        for i in range(2)
    ]
    lines.append(lmms_line(2, "How many?", "3", "3", 1.0))
    results, samples, _ = imported(lmms_file(tmp_path, lines))
    assert (results["n"], results["questions"]) == (3, 2)
    assert [(s.id, s.k, s.correct, s.length) for s in samples[:3]] == [
        *(("0", 0, True, 1), ("0", 1, False, 2), ("0", 2, True, 3))
    ]
    assert results["pass@k"]["3"]["value"] == 1
    assert results["official"]["value"] == pytest.approx(2 / 3)
    assert results["settings"]["imported"]["left_out"] == {"number_of_answers": 1}


def test_rows_that_cannot_be_used_are_counted(imported, tmp_path):
    lines = [
        *map(lambda row: lmms_line(*row), ROWS),
        lmms_line(0, SHAPES, "B", "C", 0.0),  # another filter's line of the same row
        lmms_line(6, "Why?", "", "because", 0.0),
        {**lmms_line(7, SHAPES, "B", None, 1.0), "filtered_resps": [["-1.5", "False"], ["-0.2", "True"]]},
        lmms_line(8, "How many?", "8", [], 0.0),
    ]
    path = lmms_file(tmp_path, lines)
    with path.open("a") as file:
        file.write("{no json}\n")
    results, samples, _ = imported(path)
    assert len(samples) == len(ROWS)
    counted = {"repeated": 1, "no_gold": 1, "log_likelihoods": 1, "no_answer_stored": 1, "unreadable_row": 1}
    assert results["settings"]["imported"]["left_out"] == counted
    assert any("repeated 1" in note for note in results["notes"])


def parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_rows_of_data_bring_ids_choices_and_tolerances(imported, tmp_path):
    rows = [
        {
            "id": "a",
            "problem": SHAPES,
            "answer": encode_answer("B", choices=["circle", "square", "triangle"]),
        },
        {"id": "b", "problem": "How long?", "answer": encode_answer(10, tolerance=0.1)},
        {"id": "c", "problem": "How wide?", "answer": "3"},
    ]
    lines = [
        lmms_line(0, "Which?", "B", "the square", 0.0),
        lmms_line(1, "How long?", "10", "10.5", 0.0),
        lmms_line(2, "How wide?", "4", "4", 1.0),  # another question than the row
        lmms_line(9, "How high?", "4", "4", 1.0),
    ]
    data = parquet(tmp_path / "rows.parquet", rows)
    results, samples, _ = imported(lmms_file(tmp_path, lines), "--data", data)
    assert [(s.id, s.correct) for s in samples] == [("a", True), ("b", True)]
    facts = results["settings"]["imported"]
    assert facts["left_out"] == {"another_answer": 1, "not_in_data": 1}
    assert facts["doc_hash"] == {"empty": 2}
    assert any("hash of nothing" in note for note in results["notes"])


def test_doc_hash_is_checked_where_the_row_can_be_rebuilt(imported, tmp_path):
    rows = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(3)]
    lines = [
        {
            **lmms_line(i, row["problem"], row["answer"], row["answer"], 1.0),
            "doc_hash": hashlib.sha256(json.dumps(row, indent=2, ensure_ascii=False).encode()).hexdigest(),
        }
        for i, row in enumerate(rows)
    ]
    lines[2]["doc_hash"] = "0" * 64
    data = parquet(tmp_path / "rows.parquet", rows)
    results, samples, _ = imported(lmms_file(tmp_path, lines), "--data", data)
    assert results["settings"]["imported"]["doc_hash"] == {"equal": 2, "other": 1}
    assert samples[0].id == "rows:0"  # as an evaluation of that file calls the row


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exact_match": 3}, "3 is no verdict from 0 to 1"),
        ({"filtered_resps": {"text": "B"}}, "no usable row is left"),
    ],
)
def test_a_file_that_is_something_else_ends_in_a_sentence(gmpo_vl, tmp_path, change, said):
    path = lmms_file(tmp_path, [{**lmms_line(*ROWS[0]), **change}])
    told = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--official", "exact_match", code=2)
    assert said in told


def test_no_verdicts_are_taken_where_none_are_asked_for(imported, tmp_path):
    results, samples, _ = imported(lmms_file(tmp_path), "--official", "none")
    assert "official" not in results
    assert all("official" not in s.reward for s in samples)


def test_unknown_metrics_and_names_are_refused(gmpo_vl, tmp_path):
    path = lmms_file(tmp_path)
    said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--official", "bleu", code=2)
    assert "--official bleu: the file has exact_match" in said
    said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--name", "a/b", code=2)
    assert "no folder can be called" in said
    said = gmpo_vl("eval", "import", path, path, "--out", tmp_path / "out", "--name", "a", code=2)
    assert "--name is of one result" in said


def test_one_of_several_files_that_cannot_be_read_is_told(gmpo_vl, tmp_path):
    empty = tmp_path / "20260101_samples_none.jsonl"
    empty.write_text("")
    gmpo_vl("eval", "import", empty, lmms_file(tmp_path), "--out", tmp_path / "out", code=1)
    assert (tmp_path / "out" / "shapes-imported" / "results.json").is_file()
    said = gmpo_vl("eval", "import", empty, "--out", tmp_path / "out", code=2)
    assert "is empty" in said


def test_mmmu_and_lists_of_scores_hold_verdicts(imported, tmp_path):
    lines = [
        {**lmms_line(0, SHAPES, "B", "B", None), "mmmu_acc": {"answer": "B", "parsed_pred": "B"}},
        {**lmms_line(1, SHAPES, "B", "A", None), "mmmu_acc": {"answer": "B", "parsed_pred": "A"}},
        {**lmms_line(2, SHAPES, "B", "A", None), "mmmu_acc": {"answer": "4", "parsed_pred": ["4"]}},
        {**lmms_line(3, SHAPES, "B", "A", None), "mmmu_acc": {"response": ["A"], "scores": [False]}},
    ]
    for line in lines:
        del line["exact_match"]
    results, samples, _ = imported(lmms_file(tmp_path, lines))
    assert [s.reward.get("official") for s in samples] == [1.0, 0.0, None, 0.0]
    assert results["settings"]["imported"]["official"] == "mmmu_acc"
    assert results["official"]["answers"] == 3


@pytest.mark.parametrize(
    "model_args",
    [
        {"pretrained": "org/tiny", "api_key": "s3cret", "headers": {"Authorization": "Bearer s3cret"}},
        '{"pretrained": "org/tiny", "extra": [{"auth": "s3cret"}]}',
        str({"pretrained": "org/tiny", "hf_token": "s3cret"}),
        "pretrained=org/tiny,headers=Authorization: Bearer s3cret,a=b,s3cret",
        "pretrained=org/tiny,base_url=https://me:s3cret@host/v1?x=s3cret",
        "pretrained=org/tiny,revision=sk-s3cret",
        {"pretrained": "org/tiny", "x": {"base_url": "https://s3cret:s3cret@host"}},
        '{"pretrained": "org/tiny", broken s3cret',
    ],
)
def test_no_value_of_an_unknown_setting_is_written(imported, tmp_path, model_args):
    path = lmms_file(tmp_path)
    file = path.with_name("20260101_120000_results.json")
    stated = json.loads(file.read_text())
    stated["config"] |= {"model_args": model_args, "gen_kwargs": model_args}
    stated["configs"]["shapes"]["generation_kwargs"] = {"temperature": 0.5, "extra_body": model_args}
    stated["model_name"] = stated["config"]["model"] = "https://me:s3cret@host/tiny"
    file.write_text(json.dumps(stated))
    results, _, _ = imported(path)
    facts = results["settings"]["imported"]
    assert facts["sampling"]["temperature"] == 0.5
    if "broken" not in model_args:
        assert "org/tiny" in str(facts["model_args"])
    for written in (tmp_path / "out").rglob("*"):
        assert written.is_dir() or b"s3cret" not in written.read_bytes()


def test_settings_that_are_no_secrets_are_kept():
    for text in ("max_new_tokens=8,tokenizer=slow,key_frames=4", "pretrained=org/tiny@main,dtype=bfloat16"):
        assert without_secrets(text) == text
    assert without_secrets({"top_p": 0.5, "until": ["\n"]}) == {"top_p": 0.5, "until": ["\n"]}
    assert without_secrets({"temperature": float("inf")}) == {"temperature": "inf"}
