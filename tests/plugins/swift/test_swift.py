"""Our rewards in ms-swift: two updates of `swift rlhf` on a tiny model, on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_families import save_tiny_text

import gmpo_vl.plugins

PLUGIN = Path(gmpo_vl.plugins.__file__).parent / "swift.py"
RIGHT, WRONG = r"<think>2 + 3</think> \boxed{5}", r"\boxed{6}"
LOOK = """
import sys
from importlib.machinery import PathFinder
from swift.utils import import_external_file

import_external_file(sys.argv[1])
from swift.rewards import orms
found = PathFinder.find_spec("trl").origin  # what a process would import that gets this one's path
assert found.endswith("trl/__init__.py"), found
right, wrong = sys.argv[2:4]
columns = dict(solution=["5", "5", None], response_token_ids=[[[1, 2], [3]], [4], [5]])
for name in ("gmpo_vl_geometry3k", "gmpo_vl_math_accuracy"):
    assert orms[name].__name__ == name
    assert orms[name](args=None)([right, wrong, right], **columns) == [1.0, 0.0, None], name
plugin = sys.modules[orms["gmpo_vl_math"].__module__]
plugin.register("long", sys.argv[4] + ":score")
assert orms["long"]()([right, wrong, right], **columns) == [3.0, 1.0, None]
print(sorted(name for name in orms if name.startswith("gmpo_vl")))
"""
OWN = """
from gmpo_vl.plugins.swift import register

register("half_format", "geometry3k", answers="gold", format_weight=0.5)
register("long", __file__.replace("plugin.py", "my_reward.py") + ":score", answers="gold")
"""
MY_REWARD = """
def score(reward_inputs):
    return [{"overall": float(given["response_length"])} for given in reward_inputs]
"""


def run(*command: str, cwd: Path) -> str:
    """What it printed; its end where it failed."""
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert found.returncode == 0, (found.stdout + found.stderr)[-4000:]
    return found.stdout


def test_the_installed_file_registers_every_reward_and_hides_no_package(tmp_path):
    (tmp_path / "my_reward.py").write_text(MY_REWARD)
    names = run("-c", LOOK, str(PLUGIN), RIGHT, WRONG, "my_reward.py", cwd=tmp_path)
    for name in ("gmpo_vl_geometry3k", "gmpo_vl_judge", "gmpo_vl_r1v_format"):
        assert repr(name) in names


@pytest.fixture(scope="module")
def tiny_text(tmp_path_factory) -> Path:
    return save_tiny_text(tmp_path_factory.mktemp("tiny_text"))


def train(folder: Path, model: Path, plugin: Path, answers: str, *rewards: str) -> list[dict]:
    """Two updates of GRPO; ms-swift's log of each."""
    rows = [
        {"messages": [{"role": "user", "content": f"What is {i}+1?"}], answers: str(i + 1)} for i in range(4)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "rlhf_type": "grpo",
        "model": model,
        "model_type": "qwen2",
        "template": "chatml",
        "tuner_type": "full",
        "torch_dtype": "float32",
        "dataset": "rows.jsonl",
        "external_plugins": plugin,
        "use_vllm": "false",
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 12,
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": folder / "out",
    }
    given = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    run("-m", "swift.cli.rlhf", *given, "--reward_funcs", *rewards, cwd=folder)
    [log] = (folder / "out").rglob("logging.jsonl")
    steps = [row for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert len(steps) == 2
    return steps


def test_two_updates_by_the_installed_files_path(tmp_path, tiny_text):
    names = ("gmpo_vl_geometry3k", "gmpo_vl_geometry3k_format")
    for step in train(tmp_path, tiny_text, PLUGIN, "solution", *names):
        assert [step[f"rewards/{name}/mean"] for name in names] == [0.0, 0.0]  # it is a random model


def test_two_updates_by_a_plugin_of_ones_own(tmp_path, tiny_text):
    (tmp_path / "plugin.py").write_text(OWN)
    (tmp_path / "my_reward.py").write_text(MY_REWARD)
    for step in train(tmp_path, tiny_text, tmp_path / "plugin.py", "gold", "half_format", "long"):
        assert 0 < step["rewards/long/mean"] <= 12
        assert step["rewards/half_format/mean"] == 0.0
