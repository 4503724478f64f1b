"""What is off by default and was switched on has a line in the plan and in the doctor's list."""

import pytest

from gmpo_vl.cli import main

SECTION = "algorithm.rollout_correction"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["worker.rollout.top_k=5"], ["top_k 5: "]),
        (["algorithm.papo.kl_prcp_coef=0.01"], ["PAPO: kl_prcp_coef 0.01, "]),
        (["worker.actor.old_log_probs=rollout"], ["old_log_probs rollout: "]),
        ([f"{SECTION}.rollout_is=token"], ["rollout_correction: token weights of at most 2"]),
        (
            [f"{SECTION}.rollout_rs=token_k1,seq_mean_k3", f"{SECTION}.rollout_rs_threshold='0.6_1.4,0.01'"],
            ["token_k1 accepts ratios of 0.6 to 1.4; seq_mean_k3 accepts 0.01 nats at most"],
        ),
        # the same without quotes is another number
        (
            [f"{SECTION}.rollout_rs=token_k1", f"{SECTION}.rollout_rs_threshold=1_5"],
            ["ratios of 0.066667 to 15"],
        ),
        (
            ["trainer.grad_noise_freq=3", "trainer.look_freq=2", "trainer.look_prompts=4"],
            ["grad_noise  every 3 steps", "look        every 2 steps, on "],
        ),
    ],
)
def test_what_is_switched_on_is_told(doctor, tmp_path, capsys, settings, says):
    code, findings = doctor(*settings)
    assert code == 0
    capsys.readouterr()  # what the doctor printed
    assert main(["train", "--dry-run", str(tmp_path / "run.yaml"), *settings]) == 0
    plan = capsys.readouterr().out
    told = "\n".join(f["what"] for f in findings if f["check"] == "config")
    for text in says:
        assert text in told
        assert text in plan


def test_what_only_training_measures_is_not_told_of_a_validation(doctor):
    _, findings = doctor("trainer.look_freq=2", "trainer.grad_noise_freq=2", "trainer.val_only=true")
    assert not [f for f in findings if f["check"] == "config"]
