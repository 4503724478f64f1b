"""Real runs of a tiny model: a killed study goes on, and its results are the same to the byte."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import REWARD

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.engines.local.engine import train
from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.declaration import read_study
from gmpo_vl.study.grid import StudyRun, fresh_runs, make_plan, tuning_runs
from gmpo_vl.study.outcomes import freeze
from gmpo_vl.study.phases import open_study, run_study, write_findings


@pytest.fixture
def file(tmp_path, write_study, diagrams, tiny_folder) -> Path:
    """One method, rate and setting: four runs of one step."""
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    (tmp_path / "reward.py").write_text(REWARD)
    own = {
        "data.train_files": diagrams / "train.parquet",
        "data.val_files": diagrams / "validation.parquet",
        "worker.actor.model.model_path": tmp_path / "tiny",
        "worker.reward.reward_function": f"{tmp_path / 'reward.py'}:compute_score",
        "data.rollout_batch_size": 2,
        "trainer.max_steps": 1,
    }
    return write_study(
        overrides=[f"{key}={value}" for key, value in own.items()],
        methods={"gmpo": []},
        learning_rates=[1e-3],
        updates={"u2": ["worker.actor.global_batch_size=1"]},
        tuning_seeds=[1],
    )


def run_here(study, folder: StudyFolder, run: StudyRun) -> None:
    """What the runner's process does, without starting one."""
    from gmpo_vl.study.grid import settings_of

    target = folder.run(run.name).folder
    torch.set_num_threads(1)
    train(load_config(study.base, [*settings_of(study, run), f"trainer.save_checkpoint_path={target}"]))
    folder.write_ending(run.name, {"exit": 0, "error": None, "seconds": 1.0, "versions": VERSIONS})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("gmpo-vl", "torch", "transformers")}


VERSIONS = _versions()


def finished_study(file: Path, out: Path) -> StudyFolder:
    """A study's folder with all its runs done."""
    study, text = read_study(file), file.read_text()
    folder = open_study(out, text, make_plan(study, text))
    for run in tuning_runs(study):
        run_here(study, folder, run)
    for run in fresh_runs(study, freeze(study, folder)):
        run_here(study, folder, run)
    write_findings(study, folder)
    return folder


def test_a_killed_study_goes_on_to_the_same_results(file, tmp_path):
    last = "final/gmpo/u2/seed13"
    whole = finished_study(file, tmp_path / "whole")
    folder = StudyFolder(shutil.copytree(whole.folder, tmp_path / "killed"))
    shutil.rmtree(folder.run(last).folder)
    folder.results_file.unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.folder.glob("runs/**/metrics.jsonl")}
    assert len(before) == 3

    command = [sys.executable, "-m", "gmpo_vl.cli", "study", str(file), "--out", str(folder.folder)]
    driver = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    wait_for(folder.run(last).checkpoints.exists, driver)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert folder.ending(last) is None

    # The run outlived its study: the next one waits for it, and goes on from where it ended.
    said: list[str] = []
    run_study(read_study(file), folder, 1, said.append, main)
    assert said[0] == f"waiting for {last}"
    assert [line["step"] for line in folder.run(last).read_metrics()] == [0, 1]
    assert folder.results_file.read_bytes() == whole.results_file.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert folder.figure_file.exists()


def test_a_run_that_crashes_costs_one_run(file, tmp_path, capsys):
    study, text = read_study(file), file.read_text()
    folder = open_study(tmp_path / "out", text, make_plan(study, text))
    (tmp_path / "tiny" / "config.json").write_text("{")
    said: list[str] = []
    results = run_study(study, folder, 1, said.append, main)
    assert [(row["phase"], row["state"]) for row in results["runs"]] == [("tune", "failed")]
    assert "1/1 tune/gmpo/u2/lr0.001/seed1: FAILED, exit code" in said[0]
    assert "tiny" in results["runs"][0]["error"]
    assert "not chosen: 1 runs are missing" in folder.page_file.read_text()


def wait_for(condition, driver: subprocess.Popen) -> None:
    while not condition():
        assert driver.poll() is None
        time.sleep(0.05)
