"""The doctor run on a tiny model and the built-in diagrams."""

import json

import pytest
from families.conftest import folder_of  # noqa: F401

from gmpo_vl.cli import main
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.tasks.diagrams.data import export

BASE = """
engine: local
data: {train_files: DATA/train.parquet, val_files: DATA/validation.parquet, format_prompt: boxed,
       max_prompt_length: 128, max_response_length: 8, rollout_batch_size: 4,
       min_pixels: null, max_pixels: null}
worker:
  actor:
    global_batch_size: 2
    model: {model_path: MODEL, enable_gradient_checkpointing: false}
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}
  rollout: {n: 2}
  reward: {reward_function: accuracy}
trainer: {max_steps: 4, logger: [file], save_checkpoint_path: RUN}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagrams")
    export(folder, {"train": 12, "validation": 4})
    return folder


@pytest.fixture
def doctor(tmp_path, model, data):
    """Run the doctor; gives (exit code, findings)."""

    def run(*arguments, model=model):
        text = (
            BASE.replace("DATA", str(data)).replace("MODEL", str(model)).replace("RUN", str(tmp_path / "run"))
        )
        (tmp_path / "run.yaml").write_text(text)
        code = main(
            ["doctor", str(tmp_path / "run.yaml"), *map(str, arguments), "--out", str(tmp_path / "doctor")]
        )
        return code, json.loads((tmp_path / "doctor/doctor.json").read_text())

    return run
