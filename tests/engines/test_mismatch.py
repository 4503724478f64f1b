"""The guard against a sampler that is not the policy: what stops a run, at which step, and what does not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmpo_vl.config import ConfigError
from gmpo_vl.engines import loop
from gmpo_vl.engines.local.engine import LocalEngine, train
from gmpo_vl.engines.mismatch import GROWTH, SHARE, check_mismatch, trend_figures
from gmpo_vl.engines.parity import MISMATCH
from gmpo_vl.runs import Run

# Recorded: runs of EasyR1 on vLLM 0.11 in bf16 on a CPU (tiny models, 8 prompts x 4 answers a step), GMPO.
RECORDED = json.loads((Path(__file__).parent / "mismatch_runs.json").read_text())
BF16 = {"rollout/mismatch_p50": MISMATCH["bf16"]}


def step(p50, rms=0.0):
    return {"rollout/mismatch_kl": 0.0, "rollout/mismatch_p50": p50, "rollout/mismatch_rms": rms}


def stops_at(steps, tolerated=BF16):
    """The step, counted from 1, whose check ends the run; None for a run that reaches its end."""
    earlier = []
    for number, metrics in enumerate(steps, start=1):
        try:
            check_mismatch(metrics, tolerated, earlier)
        except ConfigError:
            return number
        earlier.append(trend_figures(metrics))
    return None


def recorded(name):
    return [step(p50, rms) for p50, rms in zip(RECORDED[name]["p50"], RECORDED[name]["rms"])]


def test_an_adapter_that_never_reaches_the_sampler_is_found_at_a_small_learning_rate():
    assert stops_at(recorded("adapter never synchronised, lr 1e-5")) == 35


@pytest.mark.parametrize("name", [name for name in RECORDED if "never" not in name])
def test_sound_runs_in_half_precision_go_on(name):
    assert len(recorded(name)) >= 35
    assert stops_at(recorded(name)) is None


def test_a_jump_stops_a_run_at_once_on_every_step():
    assert stops_at([step(0.01)] * 30 + [step(0.2)]) == 31
    assert stops_at([step(0.2)]) == 1
    assert stops_at([step(0.01)] * 3 + [step(math.nan)]) == 4


def test_a_trend_is_of_five_steps_and_of_some_size():
    high = SHARE * MISMATCH["bf16"] * 1.01
    assert stops_at([step(high / GROWTH * 0.99)] * 10 + [step(high)] * 10) == 15
    assert stops_at([step(high / GROWTH * 1.01)] * 10 + [step(high)] * 10) is None
    assert stops_at([step(0)] * 10 + [step(high * 0.98)] * 10) is None
    assert stops_at([step(0)] * 10 + [step(high * 3)] + [step(0)] * 10) is None  # one step
    assert stops_at([step(0)] * 2 + [step(high)] * 5) == 7
    assert stops_at([step(0)] * 10 + [step(high)] * 10, {}) is None  # a truncated distribution's log-probs


def test_a_growing_root_mean_square_is_said_once_and_stops_nothing():
    high = SHARE * MISMATCH["bf16"] * 1.01
    said, earlier = [], []
    for metrics in [step(0.001, high / GROWTH * 0.99)] * 10 + [step(0.001, high)] * 10:
        said.append(check_mismatch(metrics, BF16, earlier))
        earlier.append(trend_figures(metrics))
    assert [number for number, warning in enumerate(said, start=1) if warning] == [15]
    assert "rollout/mismatch_rms grew" in said[14]


def test_a_step_without_new_answers_is_passed_over():
    check_mismatch({"reward/overall": 1.0}, BF16, [])
    assert trend_figures({"reward/overall": 1.0, "rollout/mismatch_p50": None}) is None
    assert trend_figures(step(0.01, math.inf)) is None


@pytest.fixture
def stale(monkeypatch):
    """From the second step on, the sampler's log-probs are off by this much."""
    generate, asked = LocalEngine.generate, []

    def off(engine, prompts, positions, sampling, progress=None):
        groups = generate(engine, prompts, positions, sampling, progress)
        asked.append(positions)
        if len(asked) > off.sound_calls:
            for group in groups:
                group.responses = [
                    replace(r, rollout_log_probs_T=r.rollout_log_probs_T - 0.5) for r in group.responses
                ]
        return groups

    monkeypatch.setattr(LocalEngine, "generate", off)
    return off


@pytest.mark.parametrize("trusted", [False, True])
def test_a_run_whose_sampler_goes_wrong_late_stops(make_config, tmp_path, stale, trusted):
    """Where the sampler's log-probs are taken as they are, the first mini-batch of the update shows it."""
    stale.sound_calls = 3
    config = make_config(
        "trainer.max_steps=6",
        "trainer.val_freq=-1",
        "trainer.val_before_train=false",
        "trainer.save_freq=1",
        f"worker.actor.old_log_probs={'rollout' if trusted else 'recompute'}",
    )
    with pytest.raises(ConfigError, match="do not compute the same model"):
        train(config)
    run = Run(tmp_path / "run")
    assert run.checkpoint_steps() == [1, 2, 3]
    assert [line["rollout/mismatch_p50"] < 1e-3 for line in run.read_metrics()] == [True] * 3


def test_groups_carried_over_from_an_earlier_step_are_no_mismatch(make_config):
    """Its log-probs are those of the policy that wrote it: under a large learning rate they are far from the
    one of now.
    """
    config = make_config(
        "worker.actor.old_log_probs=rollout",
        "algorithm.online_filtering=true",
        "algorithm.filter_key=overall",
        "worker.actor.optim.lr=1e-2",
        "trainer.max_steps=6",
    )
    run = train(config)
    steps = [line for line in run.read_metrics() if line["step"] > 0]
    assert len(steps) == 6
    gaps = [line["rollout/mismatch_max"] for line in steps if "rollout/mismatch_max" in line]
    assert len(gaps) >= 2
    assert max(gaps) < 1e-3
    assert torch.isfinite(torch.tensor(gaps)).all()


def test_a_run_that_goes_on_is_compared_with_its_first_steps(make_config, monkeypatch):
    known = []

    def note(metrics, tolerated, earlier):
        known.append(len(earlier))
        return check_mismatch(metrics, tolerated, earlier)

    monkeypatch.setattr(loop, "check_mismatch", note)
    train(make_config("trainer.max_steps=2", "trainer.save_freq=1"))
    train(make_config("trainer.max_steps=4", "trainer.save_freq=1"))
    assert known == [0, 1, 2, 3]
