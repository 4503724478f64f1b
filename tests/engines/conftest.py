"""A configuration that trains a tiny model on built-in diagrams in seconds."""

from pathlib import Path

import pytest

from gmpo_vl.config import Config, load_config
from gmpo_vl.data.diagrams import export
from gmpo_vl.models.tiny import save_tiny

BASE = """
engine: local
data: {max_prompt_length: 128, max_response_length: 10, rollout_batch_size: 4, min_pixels: null, max_pixels: null}
worker:
  actor:
    global_batch_size: 2
    micro_batch_size_per_device_for_update: 8
    micro_batch_size_per_device_for_experience: 16
    model: {enable_gradient_checkpointing: false}
    optim: {lr: 1.0e-3}
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}
  rollout: {n: 4}
trainer: {max_steps: 4, val_freq: 2, save_freq: 2, val_generations_to_log: 2, logger: [file]}
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


@pytest.fixture(scope="session")
def diagrams(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("diagrams")
    export(folder, {"train": 24, "validation": 6, "test": 8})
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def config_file(tmp_path, diagrams, tiny_folder) -> Path:
    (tmp_path / "reward.py").write_text(REWARD)
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture
def overrides(tmp_path, diagrams, tiny_folder) -> list[str]:
    return [
        f"data.train_files={diagrams / 'train.parquet'}",
        f"data.val_files={diagrams / 'validation.parquet'}",
        f"worker.actor.model.model_path={tiny_folder}",
        f"worker.reward.reward_function={tmp_path / 'reward.py'}:compute_score",
        f"trainer.save_checkpoint_path={tmp_path / 'run'}",
    ]


@pytest.fixture
def make_config(config_file, overrides):
    def make(*more: str) -> Config:
        return load_config(config_file, [*overrides, *more])

    return make
