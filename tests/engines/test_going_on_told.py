"""`train --dry-run` and the doctor say where a run would go on, or refuse it as the run would."""

from pathlib import Path

import pytest

from gmpo_vl.cli import main
from gmpo_vl.tasks.diagrams.data import export

SETTINGS = ["trainer.val_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=1"]
STEPS = 2


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_it_says_the_step_and_the_other_settings_and_writes_nothing(run, go_on):
    (run.folder / "weight_hashes.json").unlink()  # would be written again
    before = contents(run.folder)
    code, said = go_on("--dry-run", "worker.actor.loss_type=grpo")
    assert code == 0
    (line,) = (line for line in said.splitlines() if "goes on from" in line)
    assert "goes on from step 2 (" in line
    assert "), with other settings: " in line
    assert {"worker.actor.loss_type", "trainer.max_steps"} <= set(line.rpartition(": ")[2].split(", "))
    assert contents(run.folder) == before
    assert "the run is at its last step, 2" in go_on("--dry-run", f"trainer.max_steps={STEPS}")[1]


def test_a_run_at_its_last_step_keeps_its_files_whatever_the_settings(run, go_on):
    """Settings that train nothing; a lower save_limit would remove a checkpoint."""
    before = contents(run.folder)
    last, loggers = f"trainer.max_steps={STEPS}", "trainer.logger=[file,tensorboard]"
    code, said = go_on(last, "worker.actor.optim.lr=0.5", "trainer.save_limit=1", loggers)
    assert code == 0
    (line,) = (line for line in said.splitlines() if "stays as it is" in line)
    assert {"worker.actor.optim.lr", "trainer.save_limit"} <= set(line.rpartition(": ")[2].split(", "))
    after = contents(run.folder)
    lock = run.folder / "lock"
    assert {k: v for k, v in after.items() if k != lock} == {k: v for k, v in before.items() if k != lock}
    assert "going on with other settings than before: " in go_on()[1]
    assert "stays as it is" not in go_on()[1], "the settings of its last step"


@pytest.fixture
def other_data(tmp_path) -> str:
    export(tmp_path / "other", {"train": 23})
    return f"data.train_files={tmp_path / 'other/train.parquet'}"


def test_it_refuses_what_the_run_refuses(run, go_on, other_data):
    for setting in (other_data, "worker.actor.model.freeze_vision_tower=true"):
        before = contents(run.folder)
        code, said = go_on("--dry-run", setting)
        assert contents(run.folder) == before
        refused = said.splitlines()[-1]
        assert (code, refused) == (go_on(setting)[0], go_on(setting)[1].splitlines()[-1])
        assert code != 0
        assert "was trained" in refused


def test_a_damaged_checkpoint_and_a_folder_without_one(run, go_on):
    (run.checkpoint(2) / "trainer/optimizer.pt").write_bytes(b"damaged")
    code, said = go_on("--dry-run")
    assert code != 0
    assert "Move it away to go on from step 1" in said
    for step in run.checkpoint_steps():
        run.checkpoint(step).rename(run.folder / f"away_{step}")
    code, said = go_on("--dry-run")
    assert code == 0
    assert "it starts at step 1 again; the lines of 2 steps go to metrics.discarded.jsonl" in said


def test_the_doctor_too(run, config_file, overrides, other_data, tmp_path, capsys):
    def doctor(*more: str) -> str:
        main(["doctor", str(config_file), *overrides, *SETTINGS, *more, "--out", str(tmp_path / "doctor")])
        return capsys.readouterr().out

    said = doctor("trainer.max_steps=4")
    assert "goes on from step 2 (" in said
    assert "trainer.max_steps" in said.partition(", with other settings: ")[2].splitlines()[0]
    assert "was trained on other data: the rows of data.train_files changed since" in doctor(other_data)
