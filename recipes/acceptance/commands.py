"""`gmpo-vl` as people run it: engine easyr1, what it saves, and what answers with that."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from accept_report import figures

from acceptance.runner import Outcome, Place, judged
from acceptance.training import MODEL
from gmpo_vl.engines.parity import MISMATCH
from gmpo_vl.runs import Run
from gmpo_vl.storage.files import read_jsonl, write_text
from gmpo_vl.tasks.diagrams.data import export

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "qwen2_5_vl_3b_geo3k_gmpo_24gb.yaml"
SIDE = 448**2  # pixels of a picture, on a GPU
EXPORTED = "exported"

# A random model answers nothing right: this gives a group variance.
REWARD = """
def compute_score(reward_inputs):
    scores = [float(sum(map(ord, given["response"])) % 2) for given in reward_inputs]
    return [{"overall": score, "accuracy": score} for score in scores]
"""


def gmpo_vl(*arguments: Any) -> str:
    """What the command printed, which goes into the check's log as well.

    Raises RuntimeError with its last line where it fails.
    """
    command = [sys.executable, "-m", "gmpo_vl.cli", *map(str, arguments)]
    print("$", *command[1:], flush=True)
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:  # as it comes: the log of a command that hangs says how far it came
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode != 0:
        said = [line.strip() for line in lines if line.strip()] or ["nothing"]
        raise RuntimeError(f"gmpo-vl {arguments[0]} ended with {process.returncode}, and said: {said[-1]}")
    return "".join(lines)


def easyr1_with_lora(place: Place) -> Outcome:
    """Two steps through Ray, FSDP and vLLM with an adapter:

    does the sampler have the trainer's weights in both?
    """
    export(place.work / "data", {"train": 32, "validation": 4, "test": 16})
    write_text(place.work / "reward.py", REWARD)
    gmpo_vl("train", CONFIG, *_overrides(place), "trainer.max_steps=2")
    return _judge_run(place, steps=2)


def easyr1_goes_on(place: Place) -> Outcome:
    """The same command with another step goes on from the checkpoint."""
    said = gmpo_vl("train", CONFIG, *_overrides(place), "trainer.max_steps=3")
    return _judge_run(place, steps=3, more={"it goes on from the checkpoint": "going on from" in said})


def _overrides(place: Place) -> list[str]:
    work = place.work
    pixels = SIDE if place.cuda else "null"
    given = {
        "data.train_files": work / "data" / "train.parquet",
        "data.val_files": work / "data" / "validation.parquet",
        "data.min_pixels": pixels,
        "data.max_pixels": pixels,
        "data.max_prompt_length": 1024,
        "data.max_response_length": 256 if place.cuda else 8,
        "data.rollout_batch_size": 8,
        "worker.actor.global_batch_size": 4,
        "worker.actor.model.model_path": work / MODEL,
        "worker.actor.optim.lr": 1e-3,  # an adapter that did not reach the sampler is seen after a step
        "worker.rollout.n": 4,
        "worker.reward.reward_function": f"{work / 'reward.py'}:compute_score",
        "trainer.save_checkpoint_path": work / "easyr1",
        "trainer.logger": "[file]",
        "trainer.val_before_train": "false",
        "trainer.val_freq": -1,
        "trainer.save_freq": 1,
        "trainer.save_limit": 1,
    }
    if not place.cuda:  # float32, and what vLLM built for CPUs can do: short prompts, nothing compiled
        given |= {
            "data.format_prompt": "null",
            "worker.rollout.enforce_eager": "true",
            "worker.actor.fsdp.mp_param_dtype": "fp32",
            "worker.rollout.dtype": "fp32",
            "worker.actor.offload.offload_params": "false",
            "worker.actor.offload.offload_optimizer": "false",
        }
    return [f"{key}={value}" for key, value in given.items()]


def _judge_run(place: Place, steps: int, more: dict[str, bool] | None = None) -> Outcome:
    folder = place.work / "easyr1"
    found = figures(folder)
    norms = [line["actor/grad_norm"] for line in Run(folder).read_metrics() if line["step"] > 0]
    allowed, gap = MISMATCH["bf16" if place.cuda else "fp32"], found["rollout/mismatch_p50"]
    rules = {
        f"{steps} steps are there": found["steps"] == steps,
        "sampler and trainer agree": gap <= allowed,
        "every step has a gradient": all(norm is not None and norm > 0 for norm in norms),
        "prompts are shared": found["batch/tokens_saved"] > 0,
        **(more or {}),
    }
    known = {name: figure for name, figure in found.items() if not math.isnan(figure)}
    times = ", ".join(f"{name} {found[f'time/{name}']:.1f} s" for name in ("generate", "log_probs", "update"))
    peak = f", peak {known['memory/device_peak']:.1f} GiB" if "memory/device_peak" in known else ""
    return judged(
        f"{found['steps']:g} steps, sampler and trainer {gap:.1e} nats apart (median, at most {allowed:g}), "
        f"{found['batch/tokens_saved']:.0%} of the tokens shared\na step: {times}{peak}",
        rules,
        **known,
    )


def export_of_the_last_step(place: Place) -> Outcome:
    """`gmpo-vl export` compares log-probs with the trained model's by itself, and fails where they differ."""
    said = gmpo_vl("export", place.work / "easyr1/checkpoints/step_000003", place.work / EXPORTED)
    return Outcome("PASS", said.splitlines()[-1].partition(": ")[2])


def evaluation_with_vllm(place: Place) -> Outcome:
    """`gmpo-vl eval --backend vllm` on the exported model, or on the built one where nothing was exported."""
    exported, data = place.work / EXPORTED, place.work / "eval_data"
    model = exported if exported.is_dir() else place.work / MODEL
    export(data, {"test": 16})
    options = ["--max-tokens", 64, "--max-prompt-tokens", 1024, "--n", 1, "--temperature", 0]
    if place.cuda:  # vLLM built for CPUs draws no answers with a seed each
        options = [*options[:4], "--n", 2, "--min-pixels", SIDE, "--max-pixels", SIDE]
    out = place.work / "eval"
    gmpo_vl("eval", model, "--data", data / "test.parquet", "--backend", "vllm", "--out", out, *options)
    answers = [line["response"] for path in out.glob("*/samples.jsonl") for line in read_jsonl(path)]
    wanted = 32 if place.cuda else 16
    return judged(
        f"{len(answers)} answers, {len(set(answers))} different, by the {model.name} model",
        {f"all {wanted} answers are there": len(answers) == wanted, "they differ": len(set(answers)) > 1},
        answers=float(len(answers)),
    )
