"""A run whose sampler is not the trainer's policy: corrected, and resumed to the last digit."""

from dataclasses import replace

import pytest
import torch

from gmpo_vl.engines.local.engine import LocalEngine, train

OWN = """
def plain(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B):
    return -advantages_B * ((log_probs_BT - old_log_probs_BT).exp() * mask_BT).sum(-1)
"""
IS, RS = "algorithm.rollout_correction.rollout_is", "algorithm.rollout_correction.rollout_rs"
CORRECTIONS = {
    "token weights": [f"{IS}=token", f"{RS}=token_k1", f"{RS}_threshold='0.5_2.0'"],
    "sequence weights": [
        f"{IS}=sequence",
        f"{IS}_threshold=1.1",
        f"{RS}=seq_mean_k3",
        f"{RS}_threshold=0.08",
    ],
    "geometric weights": [f"{IS}=geometric", "worker.actor.loss_type=grpo"],
    "rejections": [f"{RS}=seq_sum_k3,token_k2", f"{RS}_threshold='0.8,0.2'"],
}


@pytest.fixture
def other_sampler(monkeypatch):
    """A third of the tokens have log-probs that are up to a nat off: by what they are, the same in every run.

    The guard of the median does not mind (mismatch.py).
    """
    generate = LocalEngine.generate

    def off(engine, prompts, positions, sampling, progress=None):
        groups = generate(engine, prompts, positions, sampling, progress)
        for group in groups:
            group.responses = [
                replace(r, rollout_log_probs_T=r.rollout_log_probs_T + gap(r.ids_T)) for r in group.responses
            ]
        return groups

    monkeypatch.setattr(LocalEngine, "generate", off)


def gap(ids_T: torch.Tensor) -> torch.Tensor:
    return torch.where(ids_T % 3 == 0, (ids_T % 21).float() / 10 - 0.9, 0.0)


def figures(run) -> list[dict]:
    return [
        {k: v for k, v in line.items() if not k.startswith(("time/", "memory/", "perf/"))}
        for line in run.read_metrics()
    ]


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_corrected_run_goes_on_to_the_same_last_digit(make_config, tmp_path, other_sampler, name):
    settings = [*CORRECTIONS[name], "trainer.val_freq=-1", "trainer.val_before_train=false"]
    plain = train(make_config(f"trainer.save_checkpoint_path={tmp_path / 'plain'}", *settings[-2:]))
    whole = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    train(make_config(*settings, "trainer.max_steps=2"))
    halves = train(make_config(*settings))
    assert figures(halves) == figures(whole)
    assert not any(name.startswith(("rollout/is", "rollout/rejected")) for name in figures(plain)[0])
    steps = figures(whole)
    if any(IS in setting for setting in settings):
        for step in steps:
            assert 0 < step["rollout/is_weight_mean"] <= step["rollout/is_weight_max"] <= 2
            assert 0 < step["rollout/is_eff_sample_size"] < 1
    if any(RS in setting for setting in settings):
        assert 0 < max(step["rollout/rejected_tokens"] for step in steps) < 1
    norms = [[step["actor/grad_norm"] for step in figures(run)] for run in (plain, whole)]
    # The first step with a gradient: its rollouts are the same.
    a, b = next(pair for pair in zip(*norms) if pair[0] > 0)
    assert b > 0
    assert a != pytest.approx(b, rel=1e-4)


def test_an_equal_sampler_is_corrected_by_a_weight_close_to_one(make_config, tmp_path):
    plain = train(make_config(f"trainer.save_checkpoint_path={tmp_path / 'plain'}", "trainer.max_steps=2"))
    corrected = train(make_config(f"{IS}=geometric", "trainer.max_steps=2"))
    norms = [[line["actor/grad_norm"] for line in r.read_metrics()[1:]] for r in (plain, corrected)]
    a, b = next(pair for pair in zip(*norms) if pair[0] > 0)
    assert a != b
    assert a == pytest.approx(b, rel=1e-4)


def test_an_objective_of_one_s_own_takes_weights_of_sequences_and_rejections(
    make_config, tmp_path, other_sampler
):
    (tmp_path / "my_loss.py").write_text(OWN)
    own = [f"worker.actor.loss_type={tmp_path / 'my_loss.py'}:plain", "trainer.max_steps=1"]
    by_file = train(make_config(*own, *CORRECTIONS["sequence weights"]))
    clip = ["worker.actor.loss_type=dr_grpo", "worker.actor.length_constant=1", "trainer.max_steps=1"]
    clip += ["worker.actor.clip_ratio_low=1", "worker.actor.clip_ratio_high=1e9"]
    built_in = train(
        make_config(
            *clip, *CORRECTIONS["sequence weights"], f"trainer.save_checkpoint_path={tmp_path / 'in'}"
        )
    )
    a, b = (run.read_metrics()[-1] for run in (by_file, built_in))
    assert a["actor/grad_norm"] == pytest.approx(b["actor/grad_norm"], rel=1e-5)
    assert a["rollout/rejected_sequences"] == b["rollout/rejected_sequences"]


def test_every_response_rejected_trains_nothing_and_says_so(make_config, other_sampler, monkeypatch, capsys):
    monkeypatch.setitem(globals(), "gap", lambda ids_T: torch.full(ids_T.shape, 5e-4))  # below the guard
    run = train(make_config(f"{RS}=seq_sum_k2", f"{RS}_threshold=1e-9", "trainer.max_steps=1"))
    step = run.read_metrics()[-1]
    assert step["rollout/rejected_sequences"] == 1
    assert step["actor/grad_norm"] == 0
    assert step["actor/skipped_updates"] == 0
    assert "rejects every response of 2 of the step's 2 mini-batches" in capsys.readouterr().out
