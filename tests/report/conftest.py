"""A run's folder as the engine leaves it, made through runs.py: built-in diagrams, invented figures."""

import io
import math
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gmpo_vl.config import load_config, save_config
from gmpo_vl.evaluation.results import versions, write_results
from gmpo_vl.runs import EvaluationFolder, Run
from gmpo_vl.samples import SampleRecord, store_image
from gmpo_vl.storage.files import append_jsonl, write_json
from gmpo_vl.tasks.diagrams.data import make_examples

SETTINGS = {
    "data": {
        "train_files": "runs/demo/data/train.parquet",
        "rollout_batch_size": 16,
        "max_response_length": 32,
    },
    "worker": {
        "actor": {
            "global_batch_size": 8,
            "log_clip_low": 0.4,
            "log_clip_high": 0.4,
            "model": {"model_path": "gmpo_vl/models/pretrained"},
            "optim": {"lr": 1e-4},
        },
        "rollout": {"n": 8},
        "reward": {"reward_function": "geometry3k"},
    },
    "trainer": {"experiment_name": "invented", "max_steps": 25},
}
SUMMARY = {
    "before": 0.397,
    "after": 0.532,
    "diff": 0.135,
    "diff_ci95": [0.093, 0.177],
    "greedy_before": 0.53,
    "greedy_after": 0.66,
    "questions": 384,
    "metric": "avg@16, built-in diagrams",
    "blank_image": 0.03,
    "wrong_image": 0.06,
    "seconds": 203,
    "families": {
        "triangle": {"before": 0.21, "after": 0.34, "diff_ci95": [0.05, 0.21], "questions": 55},
        "parallel_lines": {"before": 0.52, "after": 0.71, "diff_ci95": [0.1, 0.28], "questions": 55},
        "counting": {"before": 0.81, "after": 0.78, "diff_ci95": [-0.09, 0.03], "questions": 54},
    },
    "limits": ["That GMPO beats GRPO: at this size and length the two cannot be told apart."],
}


def record(example, image: str, k: int, right: bool, step: int) -> SampleRecord:
    said = example.answer if right else str(7 + 5 * (k % 3))
    return SampleRecord(
        id=example.id,
        group=f"{step}/{example.id}",
        k=k,
        prompt=example.problem,
        images=[image],
        response=f"{example.meta['solution'].split('=')[0]}={said}. \\boxed{{{said}}}",
        finished=True,
        gold=example.answer,
        extracted=said,
        gold_type="integer",
        correct=right,
        outcome="equal" if right else "different",
        reward={"overall": float(right), "accuracy": float(right)},
        seed=k,
        length=18,
        meta={"family": example.meta["family"]},
    )


def metrics_of(step: int, share: float, rng: random.Random) -> dict[str, float]:
    return {
        "reward/overall": share,
        "reward/accuracy": share,
        "actor/ratio_max": math.exp(rng.uniform(0.3, 1.1)),
        "actor/ratio_min": math.exp(-rng.uniform(0.4, 1.6)),
        "actor/entropy": 0.4 - 0.2 * share + rng.gauss(0, 0.01),
        "actor/grad_norm": math.exp(rng.gauss(-0.6, 0.15)),
        "actor/grad_norm_max": math.exp(rng.gauss(-0.1, 0.2)),
        "actor/kl_to_old": 2e-4 * rng.uniform(0.5, 1.5),
        "actor/kl_to_start": 2e-3 * step,
        "actor/clip_fraction_high_pos": 0.001 * rng.random(),
        "actor/clip_fraction_low_neg": 0.002 * rng.random(),
        "actor/lr": 1e-4,
        "response_length/max": 31.0,
        "response_length/mean": 18.0 + rng.random(),
        "response_length/min": 9.0,
        "group/zero_variance": 0.3 + 0.2 * rng.random(),
        "rollout/truncated": 0.01 * rng.random(),
        "rollout/mismatch_kl": 1e-9 * rng.random(),
        "verify/no_answer": 0.02 * rng.random(),
        "time/generate": 0.6 + 0.1 * rng.random(),
        "time/log_probs": 0.4,
        "time/update": 1.5 + 0.2 * rng.random(),
        "time/step": 2.6,
        "memory/host_rss": 1.2,
    }


def make_run(folder: Path, steps: int = 25, groups: int = 14) -> Run:
    rng = random.Random(0)
    run = Run(folder).create()
    source = folder / "source.yaml"
    source.write_text(yaml.safe_dump(SETTINGS))
    save_config(load_config(source), folder / "config.yaml")
    examples = make_examples("train", groups * 3)
    images = {
        e.id: run.add_image(np.asarray(Image.open(io.BytesIO(e.images[0])).convert("RGB"))) for e in examples
    }
    for step in range(steps + 1):
        share = 0.4 + 0.14 * (1 - math.exp(-step / 8)) + rng.gauss(0, 0.012)
        metrics = metrics_of(step, share, rng) if step else {}
        if step % 5 == 0:
            metrics["val/accuracy"] = share + 0.1
            logged = examples[:12]
            right = [record(e, images[e.id], 0, rng.random() < share, 0) for e in logged]
            run.write_rollouts(step, right, "validation")
        run.append_metrics(step, metrics)
        if step:
            picked = [examples[(step * groups + i) % len(examples)] for i in range(groups)]
            rows = [record(e, images[e.id], k, rng.random() < share, step) for e in picked for k in range(8)]
            run.write_rollouts(step, rows)
    write_json(folder / "summary.json", SUMMARY)
    return run


def evaluation_in(run: Run, name: str, share: float, n: int = 1) -> None:
    """An evaluation of test diagrams as `evaluate` leaves it."""
    rng = random.Random(name)
    folder = run.folder / "eval" / name
    (folder / "images").mkdir(parents=True)
    records = []
    for example in make_examples("test", 20):
        pixels = np.asarray(Image.open(io.BytesIO(example.images[0])).convert("RGB"))
        digest = store_image(folder / "images", pixels)
        records += [record(example, digest, k, rng.random() < share, 0) for k in range(n)]
    stated = {"settings": {}, "versions": versions(), "seconds": 12.0}
    write_results(EvaluationFolder(folder), records, n, stated)
    append_jsonl(folder / "samples.jsonl", [asdict(r) for r in records])


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "invented", steps=10, groups=4).folder


@pytest.fixture
def run(made_once, tmp_path) -> Run:
    return Run(shutil.copytree(made_once, tmp_path / "invented"))


@pytest.fixture
def add_evaluation():
    return evaluation_in
