"""`gmpo-vl demo`: a tiny Qwen2.5-VL learns geometry with GMPO on a CPU, and a page shows how it went.

Reads top to bottom: pictures, score before, training, score after, two controls, the page. It calls as
functions what `gmpo-vl train` and `gmpo-vl eval` do with a real model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmpo_vl.demo.before_and_after import (
    SAMPLES,
    Scores,
    begin,
    compare,
    control,
    print_limits,
    print_scores,
    said_of_control,
    sample,
    scores,
)
from gmpo_vl.engines.local.engine import train
from gmpo_vl.evaluation.answering import Evaluation
from gmpo_vl.evaluation.statistics import paired_difference
from gmpo_vl.models.tiny import packaged_tiny
from gmpo_vl.report import write_report
from gmpo_vl.storage.files import write_json
from gmpo_vl.tasks.diagrams.data import ROWS, export
from gmpo_vl.types import Sampling

CONFIG = Path(__file__).with_name("diagrams.yaml")
TEST_PROBLEMS = 512
MAX_TOKENS = 32
LIMITS = (
    "That the model learned new geometry. Its warm-up left it working half of the problems out and guessing "
    "the others; it learned to work them out (about half of the gain) and to make fewer mistakes in doing so "
    "(the other half). The reward told it, nothing else.",
    "That GMPO does better than GRPO: at this size and learning rate the two cannot be told apart.",
    "What a real Qwen2.5-VL gains on Geometry3K: the model here has 0.85 million parameters.",
    "How much runs differ: the interval is over problems, not over seeds.",
)


def run(config_file: str | Path, test_problems: int, overrides: Sequence[str]) -> None:
    """The whole demo. overrides: a.b=c, over the file's keys."""
    start = time.perf_counter()
    settings = [f"worker.actor.model.model_path={packaged_tiny()}", *overrides]
    demo = begin(config_file, test_problems, settings)
    folder = demo.folder

    print("1. diagrams: the numbers of a problem stand in its picture only", flush=True)
    export(demo.data, {**ROWS, "test": test_problems})

    print(f"2. before: {SAMPLES} samples and one greedy answer to each test problem", flush=True)
    before = scores(packaged_tiny(), folder, "before", MAX_TOKENS)

    print("3. training with GMPO", flush=True)
    trained_run = train(demo.config)

    print("4. after, and two controls: a grey picture, and another problem's picture", flush=True)
    trained = trained_run.checkpoint(trained_run.checkpoint_steps()[-1]) / "huggingface"
    after = scores(trained, folder, "after", MAX_TOKENS)
    controls = {
        f"{kind}_image": sample(trained, folder, f"{kind}_image", Sampling(4, MAX_TOKENS), pictures=kind)
        for kind in ("blank", "wrong")
    }
    summary = summarise(before, after, controls, time.perf_counter() - start)
    write_json(folder / "summary.json", summary)
    page = write_report(folder)
    print_summary(summary)
    print(f"\npage     {page}\nsummary  {folder / 'summary.json'}")


def families(before: Evaluation, after: Evaluation) -> dict[str, dict]:
    """Each family of problems by itself: shares of right samples, and the paired difference's interval."""
    names = np.array([record.meta["family"] for record in before.records[:: before.n]])
    result = {}
    for name in sorted(set(names)):
        of_family = names == name
        before_Q, after_Q = before.correct_Q()[of_family], after.correct_Q()[of_family]
        difference = paired_difference(before_Q, after_Q)
        result[str(name)] = {
            "questions": int(of_family.sum()),
            "before": float(before_Q.mean()),
            "after": float(after_Q.mean()),
            "diff_ci95": [difference.low, difference.high],
        }
    return result


def summarise(before: Scores, after: Scores, controls: Scores, seconds: float) -> dict:
    """summary.json."""
    after_Q = after["avg@16"].correct_Q()
    return {
        "metric": "avg@16 at temperature 1, built-in diagrams, test split",
        **compare(before, after),
        "families": families(before["avg@16"], after["avg@16"]),
        **control("blank_image", controls["blank_image"].correct_Q(), after_Q),
        **control("wrong_image", controls["wrong_image"].correct_Q(), after_Q),
        "limits": list(LIMITS),
        "seconds": seconds,
    }


def print_summary(s: dict) -> None:
    print_scores(s)
    for family, share in s["families"].items():
        print(f"  {family:18}{100 * share['before']:8.1f}{100 * share['after']:8.1f}")
    grey = said_of_control(s, "blank_image", "the model does need its picture")
    print(f"{'grey picture':28}{100 * s['blank_image']:8.1f}   {grey}")
    other = said_of_control(s, "wrong_image", "and the right one")
    print(f"{'picture of another':28}{100 * s['wrong_image']:8.1f}   {other}")
    print_limits(s)
