"""A run whose prompt asks for the answer where the reward does not read it ends before anything is loaded."""

import os
import subprocess
import sys

import pytest

from gmpo_vl.cli import main
from gmpo_vl.config import ConfigError
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.engines.local.engine import train
from gmpo_vl.engines.opening import open_session
from gmpo_vl.tasks.diagrams.data import make_examples

BOX = "worker.reward.reward_function=accuracy"
TAG = "worker.reward.reward_function=r1v"
LONG = "data.max_prompt_length=300"


def rows_that_ask(path, text):
    write_parquet(
        path,
        [
            {"images": e.images, "problem": f"{e.problem} {text}", "answer": e.answer}
            for e in make_examples("train", 6)
        ],
    )
    return path


@pytest.fixture
def custom(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{{ content }} Think first. The answer goes into <answer>...</answer>.")
    return f"data.format_prompt={path}"


@pytest.mark.parametrize("prompt", ["data.format_prompt=r1v", "custom"])
def test_a_run_does_not_start_on_a_prompt_that_its_reward_does_not_read(
    make_config, custom, prompt, tmp_path
):
    settings = [custom if prompt == "custom" else prompt, BOX, LONG]
    with pytest.raises(
        ConfigError, match=r"data.train_files: the prompt asks for the answer in <answer>.*accuracy"
    ):
        train(make_config(*settings))
    assert not (tmp_path / "run").exists()

    def start(*_):
        pytest.fail("the engine was started")

    with pytest.raises(ConfigError, match=r"data\.format_prompt"):  # what both engines open a run with
        open_session(make_config(*settings), lambda *_: None, start)


def test_the_other_way_round_and_for_the_validation_alone(make_config, tmp_path):
    with pytest.raises(ConfigError, match=r"data.train_files: .*in \\boxed\{\}, but the reward r1v reads"):
        train(make_config("data.format_prompt=math", TAG, LONG))
    boxed = rows_that_ask(tmp_path / "boxed.parquet", "Put it into \\boxed{}.")
    tagged = rows_that_ask(tmp_path / "tagged.parquet", "Write <answer>it</answer>.")
    with pytest.raises(ConfigError, match=r"data.val_files: the prompt asks for the answer in <answer>"):
        train(make_config(f"data.train_files={boxed}", f"data.val_files={tagged}", BOX, LONG))
    train(
        make_config(f"data.train_files={boxed}", f"data.val_files={boxed}", BOX, LONG, "trainer.max_steps=1")
    )


def dry_run(config_file, overrides, *more):
    return main(["train", str(config_file), "--dry-run", *overrides, *more, LONG])


@pytest.mark.parametrize("engine", ["local", "easyr1"])
def test_the_dry_run_calls_the_reward(config_file, overrides, engine, capsys):
    of = (f"engine={engine}", "trainer.n_gpus_per_node=1", "worker.rollout.tensor_parallel_size=1")
    assert dry_run(config_file, overrides, BOX, "data.format_prompt=r1v", *of) == 2
    assert "reads it in \\boxed{}" in capsys.readouterr().err
    assert dry_run(config_file, overrides, BOX, "data.format_prompt=math", *of) == 0
    said = capsys.readouterr().out
    assert "reward      1 for the right answer as the prompt asks for it, 0 for a wrong one" in said
    assert "WARNING" not in said
    assert dry_run(config_file, overrides, BOX, *of) == 0
    said = capsys.readouterr().out  # as of the demo, whose model was taught the box
    assert "reward      1 for the right answer written as \\boxed{ANSWER}, 0 for a wrong one" in said
    assert said.count("data.train_files, data.val_files: the prompt does not say where") == 1
    assert "WARNING" not in said


def test_the_dry_run_warns_as_the_doctor_does_where_right_and_wrong_earn_alike(
    config_file, overrides, tmp_path, capsys
):
    path = tmp_path / "same.py"
    path.write_text("def compute_score(inputs):\n    return [{'overall': 0.1} for _ in inputs]\n")
    same = f"worker.reward.reward_function={path}:compute_score"
    assert dry_run(config_file, overrides, same, "worker.actor.log_clip_low=0", "trainer.look_freq=2") == 0
    said = capsys.readouterr().out
    worth = "a right answer is worth 0.10 and a wrong one 0.10 in every form that was tried"
    assert f"WARNING: worker.reward.reward_function: {worth}; " in said
    assert said.index("\nlook  ") < said.index("WARNING")
    main(["doctor", str(config_file), *overrides, same, LONG, "--out", str(tmp_path / "doctor")])
    assert worth in capsys.readouterr().out


def test_an_unlikely_value_is_a_warning_everywhere(config_file, overrides, tmp_path, capsys):
    dr_grpo = ("worker.actor.loss_type=dr_grpo", "worker.actor.length_constant=1000", "trainer.max_steps=1")
    assert dry_run(config_file, overrides, BOX, *dr_grpo) == 0
    assert "\nWARNING: worker.actor.length_constant is 1000 and " in capsys.readouterr().out
    assert main(["train", str(config_file), *overrides, BOX, LONG, *dr_grpo]) == 0
    assert "WARNING: worker.actor.length_constant is 1000 and " in capsys.readouterr().out
    main(["doctor", str(config_file), *overrides, BOX, LONG, *dr_grpo, "--out", str(tmp_path / "doctor")])
    assert "WARN  config     worker.actor.length_constant is 1000 and " in capsys.readouterr().out


def test_the_dry_run_says_what_the_reward_raises(config_file, overrides, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def compute_score(reward_inputs):\n    return 1 / 0\n")
    assert (
        dry_run(config_file, overrides, f"worker.reward.reward_function={tmp_path / 'mine.py'}:compute_score")
        == 2
    )
    said = capsys.readouterr().err
    assert f"{tmp_path / 'mine.py'}" in said
    assert "ZeroDivisionError" in said


def test_a_judge_is_not_asked(config_file, overrides, tmp_path, capsys):
    (tmp_path / "judge.py").write_text("ASKS_ENDPOINT = True\ndef compute_score(reward_inputs):\n    1 / 0\n")
    assert (
        dry_run(
            config_file, overrides, f"worker.reward.reward_function={tmp_path / 'judge.py'}:compute_score"
        )
        == 0
    )
    assert "not called: it asks an endpoint" in capsys.readouterr().out


# As much of wandb 0.31 as the check looks at: what it made of the environment. The test below compares them.
WANDB = """
import os
from types import SimpleNamespace
def setup():
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    key, mode = os.environ.get("WANDB_API_KEY"), os.environ.get("WANDB_MODE", "online")
    settings = SimpleNamespace(base_url=host, api_key=key, mode=mode, identity_token_file=None)
    return SimpleNamespace(settings=settings)
"""


def test_the_dry_run_asks_for_the_loggers(config_file, overrides, capsys, monkeypatch, tmp_path):
    def said(**environment: str) -> str:
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            assert dry_run(config_file, overrides, "trainer.logger=[wandb]") == 0
        return capsys.readouterr().out

    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    assert dry_run(config_file, overrides, "trainer.logger=[wandb]") == 2
    assert 'pip install "gmpo-vl[wandb]"' in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "wandb")
    (tmp_path / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    assert "no key for https://api.wandb.ai" in said()
    assert "no key" not in said(WANDB_API_KEY="0123")
    assert "no key" not in said(WANDB_MODE="offline")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123\n")
    assert "no key" not in said()
    assert "no key for https://wandb.example.org" in said(WANDB_BASE_URL="https://wandb.example.org")


@pytest.mark.parametrize("said", [{}, {"WANDB_API_KEY": "0" * 40}, {"WANDB_MODE": "offline"}])
def test_wandb_makes_of_the_environment_what_the_stand_in_makes_of_it(said, tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(WANDB)
    code = (
        "import wandb; s = wandb.setup().settings;"
        "print(s.base_url, s.api_key or '', s.mode or 'online', s.identity_token_file)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    kept |= {
        "HOME": str(tmp_path),
        "WANDB_BASE_URL": "https://wandb.example.org",
    }  # wandb's own default moves
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=kept | said | {"PYTHONPATH": str(path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in (tmp_path / "fake", "")
    ]
    assert found[0] == found[1]
