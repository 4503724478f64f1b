"""Games on engine easyr1, whole runs through Ray: three steps of ALFWorld's simulator on two ranks."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

import household
import torch
from test_run import curve, finish, wait_for
from tiny_families import save_tiny_text

from gmpo_vl.config import ConfigError, load_config
from gmpo_vl.engines.easyr1.export import whole_weights
from gmpo_vl.engines.local.engine import train as train_locally
from gmpo_vl.runs import Run

HOUSEHOLD = f"{Path(household.__file__)}:Lucky"
# Only games that some episodes win; those beyond a step's need are carried to the next.
SURPLUS = [
    "algorithm.online_filtering=true",
    "data.mini_rollout_batch_size=3",
    "trainer.max_try_make_batch=8",
]


@pytest.fixture
def settings(tmp_path, config_file):
    """Of a run that plays, as a.b=c."""
    model = save_tiny_text(tmp_path / "model")

    def of(name):
        log = tmp_path / f"{name}.turns"
        log.touch()
        return [
            f"data.train_files={household.write_games(tmp_path / 'train.parquet', 12)}",
            f"data.val_files={household.write_games(tmp_path / 'validation.parquet', 3)}",
            "data.max_prompt_length=1024",
            f"worker.actor.model.model_path={model}",
            "worker.rollout.val_override_config={temperature: 0.4}",
            "algorithm.episode_weight=episode",
            f"environment.name={HOUSEHOLD}",
            f"environment.settings={{log: {log}}}",
            "environment.max_turns=5",
            "trainer.n_gpus_per_node=2",
            f"trainer.save_checkpoint_path={tmp_path / name}",
            *SURPLUS,
        ]

    return of


def start(tmp_path, settings):
    command = [sys.executable, "-m", "gmpo_vl.cli", "train", str(tmp_path / "run.yaml"), *settings]
    return subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def turns(tmp_path, name):
    return len((tmp_path / f"{name}.turns").read_text().splitlines())


def test_a_run_of_games_killed_in_an_episode_goes_on_to_the_same_last_digit(tmp_path, settings):
    finish(start(tmp_path, settings("whole")))
    whole = curve(tmp_path / "whole")
    assert [line["step"] for line in whole] == [0, 1, 2, 3]
    assert all(line["actor/grad_norm"] > 0 for line in whole[1:])
    assert 0 < whole[0]["val/accuracy"] < 1
    states = [torch.load(path) for path in (tmp_path / "whole").glob("checkpoints/*/trainer/state.pt")]
    assert any(state["surplus"] for state in states)

    killed = start(tmp_path, settings("broken"))
    wait_for(tmp_path / "broken" / "checkpoints" / "step_000001", killed)
    begun = turns(tmp_path, "broken")
    while turns(tmp_path, "broken") < begun + 12:  # after the first turns of three games of four episodes
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert Run(tmp_path / "broken").checkpoint_steps() == [1]
    assert "going on from" in finish(start(tmp_path, settings("broken")))
    assert curve(tmp_path / "broken") == whole
    for step in (1, 2, 3):
        rollouts = [Run(tmp_path / name).read_rollouts(step) for name in ("whole", "broken")]
        assert rollouts[0] == rollouts[1]
    weights = [whole_weights(Run(tmp_path / name).checkpoint(3) / "actor") for name in ("whole", "broken")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())

    # The same file with engine: local plays the same games and logs the same names.
    train_locally(load_config(tmp_path / "run.yaml", [*settings("local"), "engine=local"]))
    local = Run(tmp_path / "local").read_metrics()
    ours = Run(tmp_path / "whole").read_metrics()
    assert [set(line) for line in ours] == [set(line) for line in local]
    for mine, theirs in zip(ours, local):
        for name in ("reward/overall", "episode/turns", "episode/won", "val/accuracy", "batch/tokens_saved"):
            assert mine.get(name) == theirs.get(name), name
        if "actor/grad_norm" in mine:
            assert mine["actor/grad_norm"] == pytest.approx(theirs["actor/grad_norm"], rel=1e-3)


def test_easyr1_s_own_losses_play_no_games(tmp_path, settings):
    with pytest.raises(ConfigError, match="no weights of turns"):
        load_config(tmp_path / "run.yaml", [*settings("run"), "worker.actor.loss_type=easyr1/default"])
