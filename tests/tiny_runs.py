"""A run that trains a tiny model on built-in diagrams in seconds, for the tests of both engines."""

import re
from pathlib import Path

import gmpo_vl

BASE = """
engine: local
data: {max_prompt_length: 128, max_response_length: 10, rollout_batch_size: 4,
       min_pixels: null, max_pixels: null}
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


def protocol_text(**values: object) -> str:
    """The protocol geometry3k in small:

    answers of 12 tokens to pictures as they are, of any data; and more keys' values.
    """
    text = (Path(gmpo_vl.__file__).parent / "evaluation/protocols/geometry3k.yaml").read_text()
    for key, value in {"max_tokens": 12, "min_pixels": "null", "questions": "null", **values}.items():
        text, count = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
        assert count == 1, key
    return text


def settings_of_run(folder: Path, diagrams: Path, model: Path) -> list[str]:
    """Data, model, reward and folder of a run, as a.b=c. The reward's file is written."""
    (folder / "reward.py").write_text(REWARD)
    return [
        f"data.train_files={diagrams / 'train.parquet'}",
        f"data.val_files={diagrams / 'validation.parquet'}",
        f"worker.actor.model.model_path={model}",
        f"worker.reward.reward_function={folder / 'reward.py'}:compute_score",
        f"trainer.save_checkpoint_path={folder / 'run'}",
    ]
