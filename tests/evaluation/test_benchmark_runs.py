"""Every benchmark's protocol on hand-made rows with the tiny model: killed, resumed, counted, shown."""

import hashlib
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS
from interruptions import interrupt_after, kill_after_one_chunk

from gmpo_vl.data.rows import Columns
from gmpo_vl.evaluation.backends import BackendChoice
from gmpo_vl.evaluation.benchmarks import write_benchmark
from gmpo_vl.evaluation.prepare import Request, prepare
from gmpo_vl.evaluation.protocols import FOLDER, load_protocol, protocol_names

# What the protocols state, to the byte: numbers are quoted with them. A change gives a shipped one a higher
# `version`, and those without a version never change.
STATED = {
    "aime24": "478f6d788a71a7fe",
    "alfworld_seen": "f946f2e0c29cc1f0",
    "alfworld_unseen": "18ece75fbe58872b",
    "amc": "d1eabe7f3427d98e",
    "avg16": "38b0fd7dc5493bc4",
    "easyr1_val": "450cfbbb20a61106",
    "geometry3k": "d41bece970844c3b",
    "gridworld": "457a28df53f33699",
    "math500": "70eb4a2b4f16d060",
    "minerva": "7d54dd43db4241cb",
    "olympiad_bench": "8162586a17f78018",
}
# A model extracts or compares answers in their official score.
JUDGED = {"mathvista", "mathverse", "hallusionbench", "logicvista", "dynamath"}
STATED_BENCHMARKS = {
    "chartqa": "a56ee3cdc3573931",
    "dynamath": "7526930d0c24358e",
    "geometry3k_choices": "e1944b210bfdd03d",
    "geoqa": "3216459713e98175",
    "hallusionbench": "73fa208b888b4d0f",
    "logicvista": "cdccdb58cb55652b",
    "mathverse": "a5a327bf349bd67f",
    "mathvision": "9f9ba2e5fc75c9d1",
    "mathvision_testmini": "17dd9b267c81a2bf",
    "mathvista": "35541075e09be725",
    "mmmu": "f76e19726e61eef5",
    "wemath": "0425576417b84f54",
}
COUNTED = {
    "mathvision": "subject: algebra",
    "mathvision_testmini": "level: 5",
    "mathvista": "skills: algebraic reasoning",
    "mathverse": "mean of the five versions",
    "wemath": "score (strict)",
    "hallusionbench": "fAcc (with a picture)",
    "logicvista": "skill: inductive",
    "dynamath": "worst case",
    "chartqa": "part: human",
    "mmmu": "discipline: Art and Design",
}


def test_the_protocols_that_were_there_state_what_they_stated():
    assert {*protocol_names()} == {*STATED, *ROWS}
    stated = {name: json.dumps(load_protocol(name).stated()) for name in protocol_names()}
    digests = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in stated.items()}
    assert digests == STATED | STATED_BENCHMARKS
    assert [name for name in STATED if load_protocol(name).version is not None] == []


def in_small(name: str, data: Path, folder: Path) -> Path:
    """A benchmark's protocol in small: of this data, answers of 3 tokens, pictures as they are, 2 a chunk."""
    text = (FOLDER / f"{name}.yaml").read_text()
    changes = {"data": data, "max_tokens": 3, "min_pixels": "null", "chunk": 2, "questions": "null"}
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
        assert count == 1, key
    path = folder / f"{name}_small.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ROWS)
def test_a_benchmark_is_killed_resumed_counted_and_shown(name, tiny, tmp_path, gmpo_vl, content):
    rows = ROWS[name]()[: 10 if name != "dynamath" else 30]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    write_benchmark(name, [str(tmp_path / "rows.parquet")], tmp_path)
    protocol = in_small(name, tmp_path / f"{name}.parquet", tmp_path)
    command = ["eval", tiny, "--protocol", protocol, "--out"]
    printed = gmpo_vl(*command, tmp_path / "whole")
    kill_after_one_chunk(*command, tmp_path / "killed")
    place = f"{name}_small"
    assert len(list((tmp_path / "killed" / place / "chunks").glob("*.jsonl"))) == 1
    gmpo_vl(*command, tmp_path / "killed")
    found = content(tmp_path / "killed" / place)
    assert found == content(tmp_path / "whole" / place)

    results = json.loads(found["results.json"])
    assert results["settings"]["version"] == load_protocol(name).version
    assert results["notes"][-1].startswith("the official score: ")
    assert results["notes"][-1] in printed
    assert ("`gmpo-vl eval judge`" in " ".join(results["notes"])) is (name in JUDGED)
    page = found["result.html"].decode()
    if name not in COUNTED:
        assert "aggregates" not in results
        return
    assert results["aggregates"].keys() >= {COUNTED[name]}
    assert COUNTED[name].partition(": ")[0] in printed
    assert "As the benchmark counts" in page
    assert COUNTED[name] in page


def test_a_system_prompt_stands_before_each_question_or_is_refused(tiny, diagrams, tmp_path, gmpo_vl):
    said = 'Be "brief", and write \\\\boxed{} {{ once }}: 3 % of 5 \u20ac.'
    own = tmp_path / "own.yaml"
    fields = {"data": str(diagrams), "system_prompt": said, "min_pixels": None, "max_tokens": 3, "limit": 2}
    own.write_text(json.dumps({**fields, "n": 1, "temperature": 0.0}))
    prepared = prepare(
        Request(str(tiny), tiny, load_protocol(str(own)), Columns(), BackendChoice("transformers"))
    )
    for i in range(2):
        assert prepared.prompts.text(i).startswith(
            f"<|im_start|>system\n{said}<|im_end|>\n<|im_start|>user\n"
        )
    assert prepared.plan["protocol"]["system_prompt"] == said
    again = prepared.again()()
    assert again.prompts.text(0) == prepared.prompts.text(0), "in another process, too"
    error = gmpo_vl("eval", tiny, "--protocol", own, "--template", "no", "--out", tmp_path, code=2)
    assert "the chat template takes no system_prompt: the chat template leaves out" in error


def test_columns_are_missed_before_anything_is_asked(tiny, diagrams, tmp_path, gmpo_vl, monkeypatch):
    interrupt_after(monkeypatch, 0)
    protocol = in_small("dynamath", diagrams, tmp_path)
    error = gmpo_vl("eval", tiny, "--protocol", protocol, "--out", tmp_path, code=2)
    assert "aggregate dynamath counts by the columns question_id, subject" in error
