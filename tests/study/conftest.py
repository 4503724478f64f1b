"""A small study: two methods, three rates, two settings of updates; its runs invented, or really run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.declaration import Study, read_study
from gmpo_vl.study.grid import StudyRun, make_plan
from gmpo_vl.study.phases import open_study

BASE = """
engine: local
data:
  train_files: train.parquet
  val_files: validation.parquet
  rollout_batch_size: 8
  max_prompt_length: 128
  max_response_length: 10
  min_pixels: null
  max_pixels: null
worker:
  actor:
    model: {model_path: tiny, enable_gradient_checkpointing: false}
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}
  rollout: {n: 4}
  reward: {reward_function: accuracy}
trainer:
  {max_steps: 2, val_freq: 1, save_freq: 1, kl_to_start_freq: 1, kl_to_start_prompts: 2, logger: [file]}
"""
STUDY = {
    "base": "base.yaml",
    "methods": {"grpo": ["worker.actor.loss_type=grpo"], "gmpo": ["worker.actor.loss_type=gmpo"]},
    "learning_rates": [1e-4, 3e-4, 1e-3],
    "updates": {"u2": ["worker.actor.global_batch_size=4"], "u8": ["worker.actor.global_batch_size=1"]},
    "tuning_seeds": [1, 2],
    "fresh_seeds": [11, 12, 13],
}


@pytest.fixture
def write_study(tmp_path) -> Callable[..., Path]:
    """Writes the study's file, with keys replaced, and its base; returns the file's path."""

    def write(base: str = BASE, **changes) -> Path:
        (tmp_path / "base.yaml").write_text(base)
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def study(write_study) -> Study:
    return read_study(write_study())


@pytest.fixture
def folder(study, write_study, tmp_path) -> StudyFolder:
    text = write_study().read_text()
    return open_study(tmp_path / "out", text, make_plan(study, text))


@pytest.fixture
def finish(folder, finisher) -> Callable[..., None]:
    return finisher(folder)


@pytest.fixture(scope="session")
def finisher() -> Callable[[StudyFolder], Callable[..., None]]:
    return leave_run


def leave_run(folder: StudyFolder) -> Callable[..., None]:
    """Leaves a run behind as one that ended: with a validation score, or with an exit code and an error."""

    def invent(
        run: StudyRun, score: float, exit_code: int = 0, error: str | None = None, **more: float
    ) -> None:
        target = folder.run(run.name).create()
        for step in range(3 if exit_code == 0 else 1):
            values = {
                "actor/entropy": 0.5 - 0.1 * step,
                "actor/ratio_max": 1.5 + step,
                "actor/ratio_min": 0.5,
            }
            values |= {"actor/grad_norm": 0.2, "actor/kl_to_start": 0.01 * step, **more}
            target.append_metrics(step, {**(values if step else {}), "val/accuracy": score * step / 2})
        versions = {"gmpo-vl": "0.1.0"}
        folder.write_ending(
            run.name, {"exit": exit_code, "error": error, "seconds": 3.0, "versions": versions}
        )

    return invent
