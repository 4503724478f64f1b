"""These tests run where EasyR1 is: `make test-easyr1 EASYR1_HOME=FOLDER`. Elsewhere every file says why it is skipped."""

import hashlib
import os
from pathlib import Path

import pytest

BASE = """
engine: easyr1
data: {max_prompt_length: 128, max_response_length: 10, rollout_batch_size: 4, min_pixels: null, max_pixels: null}
worker:
  actor:
    global_batch_size: 2
    micro_batch_size_per_device_for_update: 8
    micro_batch_size_per_device_for_experience: 16
    model: {enable_gradient_checkpointing: false}
    optim: {lr: 1.0e-3}
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32, use_orig_params: true}
  ref:
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}
  rollout: {n: 4, tensor_parallel_size: 1, dtype: fp32}
trainer:
  {max_steps: 3, val_freq: 1, save_freq: 1, val_generations_to_log: 2, logger: [file], n_gpus_per_node: 1}
"""

# No tiny random model answers right: these rewards give groups variance, and are the same on every run.
REWARD = """
def compute_score(reward_inputs):
    scores = []
    for given in reward_inputs:
        right = float(sum(map(ord, given["response"])) % 3 == 0)
        scores.append({"overall": right, "accuracy": right})
    return scores
"""


def digest(folder: Path) -> str:
    """Of every file's name and bytes."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def easyr1_stays_as_it_is():
    """EasyR1 is used, never changed: its checkout is the same to the byte afterwards."""
    home = os.environ.get("EASYR1_HOME")
    before = digest(Path(home)) if home else None
    yield
    assert home is None or digest(Path(home)) == before, f"{home} was changed by these tests"


@pytest.fixture(scope="session")
def diagrams(tmp_path_factory) -> Path:
    from gmpo_vl.data.diagrams import export

    folder = tmp_path_factory.mktemp("diagrams")
    export(folder, {"train": 24, "validation": 6, "test": 8})
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    from gmpo_vl.models.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def overrides(tmp_path, diagrams, tiny_folder) -> list[str]:
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "run.yaml").write_text(BASE)
    return [
        f"data.train_files={diagrams / 'train.parquet'}",
        f"data.val_files={diagrams / 'validation.parquet'}",
        f"worker.actor.model.model_path={tiny_folder}",
        f"worker.reward.reward_function={tmp_path / 'reward.py'}:compute_score",
        f"trainer.save_checkpoint_path={tmp_path / 'run'}",
    ]


@pytest.fixture
def make_config(tmp_path, overrides):
    from gmpo_vl.config import load_config

    def make(*more: str):
        return load_config(tmp_path / "run.yaml", [*overrides, *more])

    return make
