"""What the demos share: the same test questions to a model before and after its training, and what came of it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from gmpo_vl.config import Config, load_config
from gmpo_vl.data.rows import Columns
from gmpo_vl.evaluation.answering import Conditions, Evaluation, evaluate
from gmpo_vl.evaluation.statistics import paired_difference
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.progress import phase_bar, quiet_libraries
from gmpo_vl.types import Sampling

SAMPLES = 16
Scores = dict[str, Evaluation]


def begin(
    doc: str | None, config_file: str, settings: Sequence[str], test_problems: int
) -> tuple[Config, Path, int]:
    """The command line of a demo: its configuration, its folder without what the last one left, how many test problems.

    config_file, test_problems: unless the command line names others. settings: a.b=c, under those of the command line.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=config_file)
    parser.add_argument(
        "--test-problems",
        type=int,
        default=test_problems,
        help="problems of the test split (default %(default)s)",
    )
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)  # this small, a second thread costs more than it gives
    config = load_config(options.config, [*settings, *options.overrides])
    folder = Path(config.trainer.save_checkpoint_path or f"runs/{config.trainer.experiment_name}")
    remove_last_demo(folder)
    config.data.train_files, config.data.val_files = (
        str(folder / "data" / f"{split}.parquet") for split in ("train", "validation")
    )
    return config, folder, options.test_problems


def remove_last_demo(folder: Path) -> None:
    """The demo always shows a whole run. A folder that no demo has written is left alone."""
    if not folder.exists():
        return
    if not (folder / "data" / "test.parquet").exists():
        raise SystemExit(
            f"{folder} is there, but no demo has written it: name another trainer.save_checkpoint_path"
        )
    shutil.rmtree(folder)


def sample(
    model: Path, folder: Path, name: str, sampling: Sampling, answer_in: str = "box", pictures="as_is"
) -> Evaluation:
    """The test problems answered, into folder/eval/name. answer_in: box or tag, where an answer's result stands."""
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
    """Of summary.json: shares between 0 and 1, intervals of 95% over questions, differences paired by question."""
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


def print_limits(s: dict) -> None:
    print(f"\n{s['seconds']:.0f} s in all. What this does not show:")
    for limit in s["limits"]:
        print(f"- {limit}")
