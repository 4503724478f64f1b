"""Whole runs through Ray on real vLLM: the log-probs of every step, a stop and a kill, and what an export
answers.
"""

import json
import signal

import pytest

pytest.importorskip("vllm.v1", reason="vLLM is not installed: make test-vllm EASYR1_HOME=FOLDER")
pytest.importorskip("verl", reason="EasyR1 is not installed: make test-vllm EASYR1_HOME=FOLDER")

from gaps import RIGHT
from runs import command, finish, of_steps, start, train, wait_for

from gmpo_vl.runs import Run
from gmpo_vl.tasks.countdown.data import TINY, export

LORA = [
    "worker.actor.model.lora={rank: 4, exclude_modules: .*visual.*}",
    "worker.actor.fsdp.use_orig_params=false",
]


def curve(run):
    """What the run logged, without what depends on the machine."""
    machine = ("time/", "perf/", "memory/")
    return [{k: v for k, v in line.items() if not k.startswith(machine)} for line in run.read_metrics()]


def test_a_run_that_is_stopped_and_killed_has_the_curve_of_one_that_is_not(
    tmp_path, overrides, mixed, diagrams, small_protocol, note
):
    """Two ranks, rows with and without a picture. What is exported answers the same in vLLM and in
    transformers.
    """
    overrides += [f"data.train_files={mixed}", "trainer.n_gpus_per_node=2"]
    said, whole = train(tmp_path, overrides, "whole")
    assert "rollouts by vLLM 0.11" in said
    note(of_steps(whole, "rollout/mismatch_max"))
    assert max(of_steps(whole, "rollout/mismatch_max")) < RIGHT
    assert [line["step"] for line in whole.read_metrics()] == [0, 1, 2, 3]
    assert of_steps(whole, "actor/grad_norm")[-1] > 0
    assert "val/accuracy" in whole.read_metrics()[-1]

    stopped = start(tmp_path, overrides, "broken")
    wait_for(tmp_path / "broken" / "checkpoints" / "step_000001", stopped)
    stopped.send_signal(signal.SIGTERM)
    assert "run the same command again to go on" in finish(stopped, code=128 + signal.SIGTERM)
    steps = Run(tmp_path / "broken").checkpoint_steps()
    killed = start(tmp_path, overrides, "broken")
    wait_for(tmp_path / "broken" / "checkpoints" / f"step_{steps[-1] + 1:06d}", killed)
    killed.kill()
    killed.wait()
    said, broken = train(tmp_path, overrides, "broken")
    assert "going on from" in said
    assert curve(broken) == curve(whole)
    assert broken.read_rollouts(3) == whole.read_rollouts(3)

    command("export", whole.checkpoint(3), tmp_path / "model")
    questions = ["--protocol", small_protocol, "--data", diagrams / "test.parquet", "--grader", "paper"]
    answers = {}
    for backend in ("transformers", "vllm"):
        out = tmp_path / "eval" / backend
        greedy = ["--temperature", 0, "--n", 1, "--backend", backend, "--out", out]
        command("eval", tmp_path / "model", *questions, *greedy)
        [samples] = out.glob("*/samples.jsonl")
        answers[backend] = [json.loads(line)["response"] for line in samples.open()]
    assert len(set(answers["vllm"])) > 1
    assert answers["vllm"] == answers["transformers"]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("pretrained", []),
        ("pretrained", LORA),
        ("pretrained", [*LORA, "trainer.n_gpus_per_node=2"]),
        ("two_heads", ["trainer.n_gpus_per_node=2", "worker.rollout.tensor_parallel_size=2"]),
        ("pretrained", ["worker.actor.old_log_probs=rollout", "trainer.max_steps=4"]),
    ],
    ids=["tied_head", "lora", "lora_2_ranks", "tensor_parallel", "old_log_probs_of_the_sampler"],
)
def test_gmpo_with_pictures(tmp_path, overrides, packaged, two_heads, note, model, more):
    folder = two_heads if model == "two_heads" else packaged(model)
    overrides += [f"worker.actor.model.model_path={folder}", "worker.actor.optim.lr=1e-3", *more]
    _, run = train(tmp_path, overrides, "run")
    note(of_steps(run, "rollout/mismatch_max"))
    assert max(of_steps(run, "rollout/mismatch_max")) < RIGHT
    assert of_steps(run, "actor/grad_norm")[0] > 0  # what the later steps see has moved


def test_a_mixture_of_experts(tmp_path, overrides, packaged, note):
    export(tmp_path / "puzzles", {"train": 12, "validation": 4}, TINY)
    puzzles = tmp_path / "puzzles"
    overrides += [
        f"worker.actor.model.model_path={packaged('pretrained_moe')}",
        f"data.train_files={puzzles / 'train.parquet'}",
        f"data.val_files={puzzles / 'validation.parquet'}",
    ]
    _, run = train(tmp_path, overrides, "run")
    note(of_steps(run, "rollout/mismatch_max"))
    assert max(of_steps(run, "rollout/mismatch_max")) < RIGHT
    assert "router/entropy" in run.read_metrics()[-1]


def test_an_adapter_in_half_precision_goes_on(tmp_path, overrides, packaged, note):
    """Rounding alone is no trend. What one GPU of 24 GB runs: LoRA, bf16 in the trainer and in vLLM."""
    half = ["worker.actor.fsdp.mp_param_dtype=bf16", "worker.rollout.dtype=bf16"]
    model = f"worker.actor.model.model_path={packaged('pretrained')}"
    sparse = ["trainer.max_steps=9", "trainer.val_freq=-1", "trainer.save_freq=-1"]
    _, run = train(tmp_path, overrides, "run", *LORA, *half, model, *sparse)
    note(of_steps(run, "rollout/mismatch_p50"), "(median)")
    assert len(of_steps(run, "rollout/mismatch_p50")) == 9
    assert max(of_steps(run, "rollout/mismatch_max")) > RIGHT
