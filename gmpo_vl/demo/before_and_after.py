"""What the demos share: the same test questions before and after training, and how the scores compare."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gmpo_vl.config import Config, load_config
from gmpo_vl.data.rows import Columns
from gmpo_vl.evaluation.answering import Conditions, Evaluation, evaluate
from gmpo_vl.evaluation.protocols import Pictures
from gmpo_vl.evaluation.statistics import paired_difference
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.progress import phase_bar, quiet_libraries
from gmpo_vl.types import Sampling

SAMPLES = 16
Scores = dict[str, Evaluation]


@dataclass(frozen=True)
class Demo:
    """What a command line gives: the configuration, the run's folder and the number of test problems."""

    config: Config
    folder: Path
    test_problems: int

    @property
    def data(self) -> Path:
        return self.folder / "data"


def begin(config_file: str | Path, test_problems: int, settings: Sequence[str]) -> Demo:
    """The configuration with its data inside the run's folder. What an earlier demo left there goes.

    Raises ValueError for a folder that no demo has written.
    """
    quiet_libraries()
    torch.set_num_threads(1)  # this small, a second thread costs more than it gives
    config = load_config(config_file, settings)
    assert config.trainer.save_checkpoint_path is not None  # load_config fills it
    demo = Demo(config, Path(config.trainer.save_checkpoint_path), test_problems)
    remove_last_demo(demo.folder)
    config.data.train_files, config.data.val_files = (
        str(demo.data / f"{split}.parquet") for split in ("train", "validation")
    )
    return demo


def remove_last_demo(folder: Path) -> None:
    """The demo always shows a whole run. A folder that no demo has written is left alone."""
    if not folder.exists():
        return
    if not (folder / "data" / "test.parquet").exists():
        raise ValueError(
            f"{folder} is there, but no demo has written it: name another trainer.save_checkpoint_path"
        )
    shutil.rmtree(folder)


def sample(
    model: Path,
    folder: Path,
    name: str,
    sampling: Sampling,
    answer_in: str = "box",
    pictures: Pictures = "as_is",
) -> Evaluation:
    """Answers to the test problems, in folder/eval/name. answer_in: where the result stands, box or tag."""
    processor = load_processor(model)
    prompts = load_prompts(str(folder / "data/test.parquet"), PromptSettings(Columns()), processor)
    conditions = Conditions(sampling, pictures=pictures, answer_in=answer_in)
    with phase_bar(name, len(prompts)) as advance:
        return evaluate(load_model(model).eval(), prompts, conditions, folder / "eval" / name, advance)


def scores(model: Path, folder: Path, name: str, max_tokens: int, answer_in: str = "box") -> Scores:
    """16 samples at temperature 1, and one greedy answer, to each test problem."""
    return {
        "avg@16": sample(model, folder, name, Sampling(SAMPLES, max_tokens), answer_in),
        "greedy": sample(
            model, folder, f"{name}_greedy", Sampling(1, max_tokens, temperature=0.0), answer_in
        ),
    }


def compare(before: Scores, after: Scores) -> dict:
    """For summary.json: shares (0 to 1), 95% intervals over questions, differences paired by question."""
    shares = {name: (before[name].correct_Q(), after[name].correct_Q()) for name in ("avg@16", "greedy")}
    difference, greedy = (paired_difference(*shares[name]) for name in ("avg@16", "greedy"))
    return {
        "questions": len(before["avg@16"].questions),
        "before": float(shares["avg@16"][0].mean()),
        "after": float(shares["avg@16"][1].mean()),
        "diff": difference.value,
        "diff_ci95": [difference.low, difference.high],
        "greedy_before": float(shares["greedy"][0].mean()),
        "greedy_after": float(shares["greedy"][1].mean()),
        "greedy_diff_ci95": [greedy.low, greedy.high],
    }


def print_scores(s: dict) -> None:
    """A summary's comparison as lines."""
    low, high = (100 * x for x in s["diff_ci95"])
    print(f"\n{s['questions']} test problems, share of right answers in percent")
    print(f"{'':20}{'before':>8}{'after':>8}")
    print(f"{'avg@16':20}{100 * s['before']:8.1f}{100 * s['after']:8.1f}   "
          f"{100 * s['diff']:+.1f}, 95% interval {low:+.1f} to {high:+.1f} (paired by problem)")  # fmt: skip
    print(f"{'greedy':20}{100 * s['greedy_before']:8.1f}{100 * s['greedy_after']:8.1f}")


def control(name: str, control_Q: np.ndarray, after_Q: np.ndarray) -> dict:
    """For summary.json: the trained model's share with other pictures, and the 95% interval of what they add
    to its share with the right ones, paired by question. Both are (Q,), shares of right samples."""
    difference = paired_difference(after_Q, control_Q)
    return {name: float(control_Q.mean()), f"{name}_diff_ci95": [difference.low, difference.high]}


def said_of_control(s: dict, name: str, claim: str) -> str:
    """The claim where other pictures surely take something away."""
    return claim if s[f"{name}_diff_ci95"][1] < 0 else "not clearly lower than with the right picture"


def print_limits(s: dict) -> None:
    print(f"\n{s['seconds']:.0f} s in all. What this does not show:")
    for limit in s["limits"]:
        print(f"- {limit}")
