"""The doctor's memory estimate against what three steps at worst-case lengths take.

    python benchmarks/memory_estimate.py [--models tiny mid] [--json]

tiny: the packaged model with the demo's batches. mid: 37 million random parameters, vocabulary 16,000. Each
is rehearsed twice in a process of its own: as a run is, which is what the estimate is of, and with a C
library that gives freed blocks back at once, so that resident memory is what tensors take: the estimate
without its gaps. Ratios are estimate / measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from gmpo_vl.config import load_config
from gmpo_vl.models.tiny import (
    TinySize,
    packaged_tiny,
    randomize,
    save_folder,
    tiny_qwen2_5_vl_config,
    tiny_tokenizer,
)
from gmpo_vl.sizing.estimate import PromptLengths, estimate_local
from gmpo_vl.sizing.limits import pass_limits
from gmpo_vl.sizing.memory import Estimate, gib
from gmpo_vl.sizing.parameters import model_size
from gmpo_vl.tasks.diagrams.data import export

ROOT = Path(__file__).parents[1]
MID = TinySize(512, 8, 16, 4, 1408, 256, 6, 8, 700, tied=True, initializer_range=0.02, rope_theta=10000.0)
BATCHES = {
    "tiny": ["data.rollout_batch_size=16", "data.max_response_length=96"],
    "mid": [
        "data.rollout_batch_size=8",
        "worker.actor.global_batch_size=4",
        "worker.actor.micro_batch_size_per_device_for_update=16",
        "data.max_response_length=64",
    ],
}
GRID = (1, 8, 8)  # a diagram's patches


def save_mid(folder: Path) -> Path:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = tiny_tokenizer()
    config = tiny_qwen2_5_vl_config(MID, tokenizer)
    config["text_config"]["vocab_size"] = 16_000
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**deepcopy(config)))
    randomize(model, MID.initializer_range, seed=0)
    return save_folder(folder, model, config, tokenizer)


def rehearsed(overrides: list[str], give_back: bool) -> dict:
    """The rehearsal's figures. give_back: freed memory goes back to the system at once."""
    environment = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": "65536"} if give_back else {})}
    command = [sys.executable, "-m", "gmpo_vl.preflight.rehearsal", "configs/demo.yaml", *overrides]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def without_gaps(found: Estimate) -> Estimate:
    """Tensors alone."""
    phases = {name: [p for p in getattr(found, name) if p.name != "gaps"] for name in ("log_probs", "update")}
    return replace(found, **{name: tuple(parts) for name, parts in phases.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--json", action="store_true", help="one JSON object a model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder / "data", {"train": 64})
        for model in options.models:
            path = packaged_tiny() if model == "tiny" else save_mid(folder / "mid")
            overrides = [
                *BATCHES[model],
                f"worker.actor.model.model_path={path}",
                f"data.train_files={folder / 'data/train.parquet'}",
                "data.val_files=null",
                "trainer.val_freq=-1",
            ]
            config = load_config(ROOT / "configs/demo.yaml", overrides)
            tensors, process = rehearsed(overrides, True), rehearsed(overrides, False)
            found = estimate_local(
                config,
                model_size(path),
                PromptLengths(tensors["prompt"], (GRID,)),
                pass_limits(config, "shared"),
                cuda=False,
            )
            measured = {"tensors": max(tensors["peaks"].values()), "resident": max(process["peaks"].values())}
            estimates = {"tensors": without_gaps(found).peak, "resident": found.peak}
            ratios = {kind: round(estimates[kind] / size, 3) for kind, size in measured.items()}
            if options.json:
                line = {"model": model, "estimates": estimates, "measured": measured}
                print(json.dumps({**line, "ratios": ratios, "load": os.getloadavg()[0]}), flush=True)
                continue
            print(
                f"{model:6} a run takes {gib(measured['resident'])}, estimated {gib(found.peak)} (ratio "
                f"{ratios['resident']:.2f}); "
                f"tensors {gib(measured['tensors'])}, estimated {gib(estimates['tensors'])} (ratio "
                f"{ratios['tensors']:.2f}); "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
