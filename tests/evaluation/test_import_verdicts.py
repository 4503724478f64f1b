"""Which values of another harness's file are its verdicts on answers."""

import json

import pytest
from imports import KIT, SHAPES, lmms_file, lmms_line

from gmpo_vl.evaluation.imported.verdicts import NoVerdict, is_called_a_verdict, official_key, verdicts
from gmpo_vl.evaluation.official import official_figures
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord


@pytest.fixture
def imported(gmpo_vl, tmp_path):
    def run(path, *options):
        gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--name", "x", *options)
        folder = EvaluationFolder(tmp_path / "out" / "x-imported")
        return folder.results(), list(folder.samples())

    return run


def line_with(**metrics) -> dict:
    line = lmms_line(0, SHAPES, "B", "B", None)
    del line["exact_match"]
    return line | metrics


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (name, True)
        for name in ("acc", "exact_match", "mmmu_acc", "pope_accuracy", "gpt_eval_score", "Accuracy", "aAcc")
    ]
    + [
        (name, True)
        for name in ("llm_as_judge_eval", "mme_perception_score", "letter_accuracy", "anls", "hit")
    ]
    + [
        (name, False)
        for name in ("wer", "asr_cer", "mae_norm", "fsc147_mae", "failure_rate", "qid", "error_acc")
    ]
    + [
        (name, False)
        for name in ("pope_precision", "bleu", "toxicity_score", "anls_format_score", "loss", "brier")
    ],
)
def test_a_verdict_is_known_by_its_name(name, is_one):
    assert is_called_a_verdict(name) is is_one
    assert official_key([{name: 0.0}], [name], None) == (name if is_one else None)
    assert official_key([{name: 0.0}], [name], name) == name


def test_an_error_rate_is_no_verdict_and_the_note_names_the_metrics(imported, tmp_path):
    results, samples = imported(lmms_file(tmp_path, [line_with(wer=0.0, qid=1)]))
    assert "official" not in samples[0].reward
    assert any("it has wer, qid; --official NAME takes one" in note for note in results["notes"])


@pytest.mark.parametrize(
    ("value", "n", "found"),
    [
        ({"answer": "B", "parsed_pred": "B"}, 1, (1.0,)),  # lmms-eval 0.3
        ({"answer": "B", "parsed_pred": ["B"]}, 1, (1.0,)),  # since 0.4
        ({"answer": "B", "parsed_pred": ["A", "B"]}, 2, (0.0, 1.0)),
        ({"answer": "B", "parsed_pred": ["A", "B"]}, 3, (None, None, None)),
        ({"answer": "4", "parsed_pred": ["4"]}, 1, (None,)),
        ({"answer": "B", "parsed_pred": [["B", 2.0]]}, 1, (None,)),
        (1.0, 2, (None, None)),  # of none of the two
        ([1, 0], 2, (1.0, 0.0)),
        (float("nan"), 1, (None,)),
        ("True", 1, (1.0,)),
        ("false", 1, (0.0,)),
        ("=1", 1, (1.0,)),
        ("=FALSE()", 1, (0.0,)),
        ("=IF(A1,1,0)", 1, (None,)),
    ],
)
def test_what_a_metric_says(value, n, found):
    assert verdicts(value, n) == found


def test_mmmu_as_lmms_eval_0_7_writes_it(imported, tmp_path):
    metric = {"id": "validation_Art_1", "subdomain": "Art", "question_type": "multiple-choice", "answer": "B"}
    results, samples = imported(lmms_file(tmp_path, [line_with(mmmu_acc={**metric, "parsed_pred": ["B"]})]))
    assert samples[0].reward["official"] == 1.0
    assert results["settings"]["imported"]["official"] == "mmmu_acc"


@pytest.mark.parametrize("value", [10**400, 3, -0.5, "7", float("inf")])
def test_a_number_elsewhere_is_no_verdict(value):
    with pytest.raises(NoVerdict, match="is no verdict from 0 to 1"):
        verdicts(value, 1)


def test_one_verdict_for_several_answers_is_told(imported, tmp_path):
    line = line_with(exact_match=1.0, resps=[["B"], ["C"]], filtered_resps=["B"])
    results, samples = imported(lmms_file(tmp_path, [line]))
    assert len(samples) == 2
    assert "official" not in results
    said = "2 answers have no verdict of lmms-eval's (exact_match), since it states one for the 2 answers of "
    said += "a row"
    assert said in results["notes"]


def test_verdicts_on_all_rotations_are_taken_when_asked_for_alone(imported, tmp_path):
    rows = [{**row, "g_index": row["index"]} for row in KIT]
    path = tmp_path / "Tiny_MMBench_result.json"
    path.write_text(json.dumps(rows))
    results, samples = imported(path)
    assert all("official" not in s.reward for s in samples)
    assert any("are of all rotations of a question (CircularEval)" in note for note in results["notes"])
    results, samples = imported(path, "--official", "hit", "--out", tmp_path / "other")
    folder = EvaluationFolder(tmp_path / "other" / "x-imported")
    assert folder.results()["official"]["value"] == 0.5


def record(question: int, correct: bool, official: float) -> SampleRecord:
    fixed = {"prompt": "", "images": [], "response": "", "finished": True, "gold": "", "extracted": None}
    fixed |= {"gold_type": "text", "outcome": "equal", "seed": 0, "length": 1, "k": 0}
    name = f"q{question}"
    return SampleRecord(name, name, correct=correct, reward={"official": official}, **fixed)


def test_the_difference_is_ours_less_the_harness_s():
    records = [record(0, True, 0.0), record(1, True, 0.0), record(2, True, 1.0), record(3, False, 1.0)]
    found = official_figures(records)
    assert found is not None
    assert (found["ours"], found["value"]) == (0.75, 0.5)
    assert found["difference"]["value"] == 0.25
    assert (found["only_ours_right"], found["only_official_right"]) == (2, 1)


@pytest.mark.parametrize(
    ("score", "correct", "ours", "theirs"),
    [(0.5, True, 0, 0), (0.5, False, 0, 1), (0.49, True, 1, 0), (0.49, False, 0, 0)],
)
def test_a_score_of_a_half_is_right(score, correct, ours, theirs):
    found = official_figures([record(0, correct, score)])
    assert found is not None
    assert (found["only_ours_right"], found["only_official_right"]) == (ours, theirs)
