"""`gmpo-vl eval import` of VLMEvalKit's tables: workbooks, TSV and JSON; what is refused."""

import json
import pickle
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from imports import KIT, kit_row

from gmpo_vl.runs import EvaluationFolder

openpyxl = pytest.importorskip("openpyxl")  # of the extra `import`


def workbook(path: Path, rows: list[dict]) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)
    return path


@pytest.fixture
def place(tmp_path) -> Path:
    """outputs/MODEL, as the harness has it."""
    folder = tmp_path / "Tiny-VL"
    folder.mkdir()
    return folder


@pytest.fixture
def imported(gmpo_vl, tmp_path):
    def run(path: Path, *options) -> tuple[dict, list]:
        gmpo_vl("eval", "import", path, "--out", tmp_path / "out" / path.suffix[1:], *options)
        (folder,) = map(EvaluationFolder, (tmp_path / "out" / path.suffix[1:]).glob("*"))
        return folder.results(), list(folder.samples())

    return run


def test_workbook_tsv_and_json_say_the_same(imported, place):
    table = pd.DataFrame(KIT)
    paths = [place / f"Tiny-VL_MMBench_judge.{ending}" for ending in ("xlsx", "tsv", "json")]
    workbook(paths[0], KIT)
    table.to_csv(paths[1], sep="\t", index=False, quoting=1)
    paths[2].write_text(json.dumps(KIT, indent=4))
    found = [imported(path) for path in paths]
    for results, samples in found:
        assert [(s.id, s.correct, s.response) for s in samples] == [
            (s.id, s.correct, s.response) for s in found[0][1]
        ]
        assert [s.reward["official"] for s in samples] == [1.0, 0.0, 0.0, 1.0]
        assert results["official"] == found[0][0]["official"]
        facts = results["settings"]["imported"]
        assert (facts["harness"], facts["model"], facts["task"]) == ("VLMEvalKit", "Tiny-VL", "MMBench_judge")
        assert "mean_length" not in results  # the harness counts no tokens
    samples = found[0][1]
    assert [s.correct for s in samples] == [True, False, False, True]
    assert samples[2].response == "=SUM(40,2)"  # a formula is its text, and nothing worked it out
    assert samples[0].prompt.endswith("A. apple\nB. chair\nC. dog")
    assert samples[0].meta == {"kind": "things", "log": "ok"}


def as_xlsxwriter(text: str) -> str:
    """How the harness's writer stores a text: control characters escaped, what looks so already marked."""
    text = re.sub("(_x[0-9a-fA-F]{4}_)", r"_x005F\1", text)
    return re.sub("[\x00-\x08\x0b-\x1f]", lambda match: f"_x{ord(match[0]):04X}_", text)


def test_responses_are_those_that_the_model_gave(imported, place):
    said = ["  A. apple\n\n", "one\r\nbell\x07\nC", "_x0041_ is no letter", " 12 "]
    rows = [{**row, "prediction": as_xlsxwriter(text)} for row, text in zip(KIT, said)]
    _, samples = imported(workbook(place / "Tiny-VL_MMBench.xlsx", rows))
    assert [s.response for s in samples] == said
    assert [s.correct for s in samples] == [True, False, False, True]


def test_yes_and_no_are_answered_with_a_reason_too(imported, place):
    said = {"Yes, there is one.": ("Yes", True), "no": ("No", True), "No, none.": ("Yes", False)}
    rows = [
        kit_row(i, "Is there a cat?", "", answer=right, prediction=text, score=True)
        for i, (text, (right, _)) in enumerate(said.items())
    ]
    _, samples = imported(workbook(place / "Tiny-VL_POPE_auxmatch.xlsx", rows))
    assert [s.correct for s in samples] == [correct for _, correct in said.values()]


def test_what_the_harness_lost_is_no_answer_and_no_right_answer(imported, place):
    """Its judged tables say nan where a cell was empty, or read None or NA, which pandas takes for empty."""
    rows = [
        {**KIT[0], "prediction": "nan", "hit": 0},
        {**KIT[2], "answer": "nan", "prediction": "nan", "hit": 1},
    ]
    results, (sample,) = imported(
        workbook(place / "Tiny-VL_MMBench_judge.xlsx", [*rows, {**KIT[3], "answer": None}])
    )
    assert (sample.response, sample.outcome) == ("", "no_answer")
    assert results["settings"]["imported"]["left_out"] == {"no_gold": 2}


def test_predictions_alone_have_no_verdicts_of_the_harness(imported, place):
    rows = [{key: value for key, value in row.items() if key not in ("hit", "log")} for row in KIT]
    results, samples = imported(workbook(place / "Tiny-VL_MMBench.xlsx", rows))
    assert "official" not in results
    assert any("no verdicts of VLMEvalKit" in note for note in results["notes"])
    assert sum(s.correct for s in samples) == 2


def test_full_cells_errors_and_rotations_are_counted(imported, place):
    rows = [dict(row) for row in KIT]
    rows[0]["prediction"] = "x" * 32_767
    rows[1]["prediction"] = "Failed to obtain answer via API."
    rows[2]["prediction"] = None
    rows[3]["index"] = 1_000_010
    results, samples = imported(workbook(place / "Tiny-VL_MMBench.xlsx", rows))
    facts = results["settings"]["imported"]
    assert (facts["cut"], facts["failed"], facts["rotated"]) == (1, 1, 1)
    assert [s.finished for s in samples] == [False, True, True, True]
    assert results["truncated"] == 0.25
    assert samples[2].outcome == "no_answer"
    said = " ".join(results["notes"])
    assert "32,767" in said
    assert "CircularEval" in said


def test_large_indices_alone_are_no_rotations(imported, place):
    rows = [{**row, "index": 2_000_000 + row["index"]} for row in KIT]
    results, _ = imported(workbook(place / "Tiny-VL_Own.xlsx", rows))
    assert "rotated" not in results["settings"]["imported"]


def test_a_long_answer_is_whole_where_nothing_cuts_it(imported, place):
    path = place / "Tiny-VL_MMBench.json"
    path.write_text(json.dumps([{**row, "prediction": "x " * 20_000 + "\\boxed{A}"} for row in KIT]))
    results, samples = imported(path)
    assert "cut" not in results["settings"]["imported"]
    assert all(s.finished for s in samples)
    assert samples[0].correct


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * 32_767, True),
        ("x" * 32_765, False),
        ("\U0001d7d9" * 16_383, True),  # a 16,384th was not split
        ("\U0001d7d9" * 16_382, False),
        ("\U0001d7d9" * 32_767, True),  # of a writer that counts each once
        ("\U0001d7d9" * 20_000, False),
    ],
)
def test_a_cell_is_full_by_the_units_that_its_writer_counts(imported, place, text, cut):
    path = place / "Tiny-VL_MMBench.json"
    path.write_text(json.dumps([{**KIT[0], "prediction": text}, KIT[1]]))
    results, samples = imported(path)
    assert samples[0].finished is not cut
    assert results["settings"]["imported"].get("cut", 0) == cut


def test_a_pickle_is_refused_unread(gmpo_vl, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_run",))

    for name in ("Tiny_MMBench.pkl", "renamed.json"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Evil()))
        said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", code=2)
        assert "reading one runs whatever code" in said
        assert ".xlsx" in said
    assert not (tmp_path / "was_run").exists()


def test_what_is_no_harness_s_file_is_named(gmpo_vl, tmp_path):
    def refused(path: Path) -> str:
        return gmpo_vl("eval", "import", path, "--out", tmp_path / "out", code=2)

    table = tmp_path / "table.json"
    table.write_text(json.dumps([{"question": "Why?", "answer": "so"}]))
    assert "its rows have question, answer" in refused(table)
    packed = tmp_path / "book.xlsx"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("photo.txt", "no sheet")
    assert "no workbook: it holds photo.txt" in refused(packed)
    packed.write_bytes(b"PK\x03\x04 and nothing else")
    assert "a damaged workbook" in refused(packed)
    text = tmp_path / "notes.md"
    text.write_text("# notes\n")
    assert "neither JSON nor a workbook" in refused(text)
    assert "there is no such file" in refused(tmp_path / "gone.xlsx")


def test_a_workbook_that_unpacks_to_too_much_or_declares_entities_is_refused(
    gmpo_vl, tmp_path, place, monkeypatch
):
    path = workbook(place / "Tiny-VL_MMBench.xlsx", KIT)
    monkeypatch.setattr("gmpo_vl.evaluation.imported.files._LARGEST_UNPACKED", 1_000)
    said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", code=2)
    assert "unpacks to" in said
    monkeypatch.undo()
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><workbook>&a;</workbook>'
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xl/workbook.xml", entity)
    said = gmpo_vl("eval", "import", path, "--out", tmp_path / "out", code=2)
    assert "declares entities" in said


def test_a_score_on_another_scale_is_no_verdict(gmpo_vl, imported, tmp_path, place):
    rows = [{**row, "score": 4} for row in KIT]
    path = workbook(place / "Tiny-VL_MMVet.xlsx", rows)
    results, _ = imported(path)  # `hit` is one
    assert results["settings"]["imported"]["official"] == "hit"
    said = gmpo_vl("eval", "import", path, "--out", tmp_path / "other", "--official", "score", code=2)
    assert "index 10: score: 4 is no verdict from 0 to 1" in said
