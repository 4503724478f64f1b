"""A run that an older commit began goes on: its files, its settings and its checkpoint are still read.

`run_of_35229e5/` was written by commit 35229e5: one step of LoRA on the tiny model, with its data, reward and
configuration.
"""

import json
import shutil
from pathlib import Path

import pytest

from gmpo_vl.cli import main
from gmpo_vl.models.tiny import save_tiny

FOLDER = Path(__file__).parent / "run_of_35229e5"
# Of step 2 as 35229e5 itself went on with it.
SECOND_STEP = {
    "step": 2,
    "reward/overall": 0.125,
    "response_length/mean": 6.0,
    "actor/entropy": 5.683004240194957,
    "actor/grad_norm": 5.18723201751709,
    "actor/lr": 0.001,
    "val/accuracy": 0.5,
}


def test_a_run_of_an_older_commit_goes_on_as_it_would_have_there(tmp_path, monkeypatch, capsys):
    shutil.copytree(FOLDER, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    save_tiny("model")
    assert main(["train", "run.yaml", "trainer.max_steps=2"]) == 0
    said = capsys.readouterr().out
    assert "going on with other settings than before: trainer.max_steps\n" in said
    assert "is of an earlier version: another model_path would go unnoticed\n" in said
    *_, last = map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())
    assert {key: last[key] for key in SECOND_STEP} == pytest.approx(SECOND_STEP, rel=1e-4)
    assert main(["report", "run"]) == 0
