"""Names and options of objectives: what does not exist, or would be ignored, is refused."""

import subprocess
import sys

import pytest
import torch

from gmpo_vl.policy import per_sequence_loss
from gmpo_vl.policy.objectives import OBJECTIVE_KEYS, OBJECTIVES, check_settings, resolve_settings


def test_a_mistyped_objective_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean gmpo"):
        check_settings("gmop", set())
    x_BT = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="did you mean gmpo"):
        per_sequence_loss("gmop", x_BT, x_BT, x_BT, torch.zeros(1))


@pytest.mark.parametrize("loss_type", OBJECTIVES)
def test_every_option_an_objective_does_not_use_is_refused(loss_type):
    for key in OBJECTIVE_KEYS:
        if key in OBJECTIVES[loss_type].defaults:
            check_settings(loss_type, {key})
        else:
            with pytest.raises(ValueError, match=f"{loss_type} does not use {key}"):
                check_settings(loss_type, {key})


def test_the_refusal_names_the_option_that_was_meant():
    with pytest.raises(ValueError, match=r"did you mean log_clip_low\?"):
        check_settings("gmpo", {"log_clip_lo"})


def test_a_limit_is_not_moved_to_another_unit():
    with pytest.raises(
        ValueError, match=r"known: log_clip_high, log_clip_low; clip_ratio_low belongs to cis"
    ):
        check_settings("gmpo", {"clip_ratio_low"})
    with pytest.raises(ValueError, match=r"cispo does not use log_clip_high; known: clip_ratio_high, clip_r"):
        check_settings("cispo", {"log_clip_high"})


@pytest.mark.parametrize(
    ("loss_type", "settings", "message"),
    [
        ("gmpo", {"log_clip_low": -0.4}, "not negative"),
        ("grpo", {"clip_ratio_low": 1.5}, "below zero"),
        ("gmpo", {"log_clip_high": float("nan")}, "NaN"),
        ("gmpo", {"log_clip_low": "0.4"}, "log_clip_low is '0.4'; it is a number"),
        ("dapo", {"clip_ratio_high": None}, "clip_ratio_high is None; it is a number"),
        ("gmpo", {"log_clip_high": True}, "log_clip_high is True; it is a number"),
        ("dr_grpo", {"length_constant": 0}, "above 0"),
        ("power_mean", {"mean_power": float("inf")}, "infinite"),
        ("cispo", {"clip_ratio_low": 1.1}, "below zero"),
        ("sapo", {"tau_positive": 0}, "tau_positive is 0: it is a temperature of 0.001 to 100"),
        ("sapo", {"tau_negative": 1000.0}, "0 or 1 nearly everywhere"),
        ("sapo", {"tau_negative": -1.0}, "a temperature"),
        ("sapo", {"tau_negative": float("inf")}, "a temperature"),
    ],
)
def test_values_that_make_no_sense_are_refused(loss_type, settings, message):
    with pytest.raises(ValueError, match=message):
        resolve_settings(loss_type, settings)


@pytest.mark.parametrize("loss_type", OBJECTIVES)
def test_every_option_changes_the_loss(loss_type):
    draw = torch.Generator().manual_seed(0)
    old_BT = torch.zeros(6, 20, dtype=torch.float64)
    new_BT = torch.randn(6, 20, generator=draw, dtype=torch.float64)
    mask_BT, advantages_B = torch.ones(6, 20), torch.tensor([1.0, -1.0, 2.0, -2.0, 0.5, -0.5])

    def loss(**options):
        return per_sequence_loss(loss_type, new_BT, old_BT, mask_BT, advantages_B, **options).loss_B

    for key, default in OBJECTIVES[loss_type].defaults.items():
        assert not torch.equal(loss(), loss(**{key: default * 0.5 + 1e-4}))


def test_the_table_lists_every_objective_of_the_paper_and_its_rivals():
    paper = {"gmpo", "grpo", "gmpo_noclip", "gmpo_seqclip", "gmpo_nonorm", "hmpo", "iqm", "power_mean"}
    assert set(OBJECTIVES) == paper | {"dr_grpo", "dapo", "gspo", "cispo", "sapo"}


@pytest.mark.parametrize("loss_type", OBJECTIVES)
def test_every_objective_is_called_by_the_one_signature(loss_type):
    draw = torch.Generator().manual_seed(0)
    new_BT, old_BT = torch.randn(2, 5, 8, generator=draw, dtype=torch.float64)
    mask_BT, advantages_B = torch.arange(8) < torch.tensor([3, 0, 8, 5, 1])[:, None], torch.randn(5).double()
    new_BT, old_BT = new_BT * mask_BT, old_BT * mask_BT
    found = OBJECTIVES[loss_type](new_BT, old_BT, mask_BT, advantages_B)
    loss_B, weight_B = found if isinstance(found, tuple) else (found, mask_BT.any(-1).double())
    want = per_sequence_loss(loss_type, new_BT, old_BT, mask_BT, advantages_B)
    assert torch.equal(loss_B, want.loss_B)
    assert torch.equal(weight_B, want.weight_B)


def test_reading_the_settings_does_not_import_torch():
    code = "import sys; import gmpo_vl.policy.objectives; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
