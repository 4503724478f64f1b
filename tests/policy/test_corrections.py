"""Corrections for another sampler than the old policy: verl's numbers, what they estimate, refusals."""

import itertools
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch

from gmpo_vl.policy import (
    accepted_tokens,
    log_rollout_weights,
    per_sequence_loss,
    reduce_loss,
    rejections,
    total_weight,
)
from gmpo_vl.policy.corrections import REJECTIONS
from gmpo_vl.policy.objectives import OBJECTIVES

# log pi_old - log pi_sampler of five responses, of 4, 3, 2, 4 and 3 tokens; what lies behind them counts not.
GAP_BT = torch.tensor(
    [
        [0.02, -0.05, 0.4, -0.3],
        [0.9, -0.7, 0.1, math.nan],
        [-1.2, 0.6, 9.0, math.nan],
        [0.01, 0.0, -0.01, 0.03],
        [25.0, -30.0, 0.5, 7.0],
    ],
    dtype=torch.float64,
)
MASK_BT = torch.arange(4) < torch.tensor([4, 3, 2, 4, 3])[:, None]

# Recorded from verl 0.9.1 (trainer/ppo/rollout_corr_helper.py) on these gaps, with zeros behind the
# responses: the weights truncated at 2, and the masks.
TOKEN_WEIGHTS = [
    *(1.020201, 0.951229, 1.491825, 0.740818),
    *(2.0, 0.496585, 1.105171),
    *(0.301194, 1.822119),
    *(1.01005, 1.0, 0.99005, 1.030455),
    *(2.0, 0.0, 1.648721),
]
SEQUENCE_WEIGHTS = [1.072508, 1.349859, 0.548812, 1.030455, 0.011109]
ACCEPTED = {
    ("token_k1", "0.6_1.4"): "1111 0010 0000 1111 0010",
    ("token_k2", "0.1"): "1111 0010 0000 1111 0000",
    ("token_k3", "0.05"): "1101 0010 0000 1111 0000",
    ("seq_sum_k1", "0.8_2.0"): "1111 0000 1100 1111 0000",
    ("seq_sum_k2", "0.3"): "1111 0000 0000 1111 0000",
    ("seq_sum_k3", "0.8"): "1111 1110 1100 1111 0000",
    ("seq_mean_k1", "0.95_1.5"): "1111 0000 1100 1111 0000",
    ("seq_mean_k2", "0.05"): "1111 0000 0000 1111 0000",
    ("seq_mean_k3", "0.15"): "1111 0000 0000 1111 0000",
    ("seq_max_k2", "0.5"): "1111 1110 0000 1111 0000",
    ("seq_max_k3", "0.1"): "1111 0000 0000 1111 0000",
    ("token_k1,seq_mean_k3", "0.6_1.4,0.2"): "1111 0000 0000 1111 0000",
    ("token_k1, seq_sum_k1", 2.0): "1111 0010 0100 1111 0010",
}

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
TABLE = runpy.run_path(str(BENCHMARKS / "correction_table.py"))
Correction, toy = TABLE["Correction"], TABLE["toy"]


def weights(kind: str, threshold: float = 2.0) -> torch.Tensor:
    return log_rollout_weights(GAP_BT, torch.zeros_like(GAP_BT), MASK_BT, kind, threshold).exp()


def test_weights_are_verl_s():
    assert weights("token")[MASK_BT].tolist() == pytest.approx(TOKEN_WEIGHTS, abs=1e-6)
    assert weights("sequence").tolist() == pytest.approx(SEQUENCE_WEIGHTS, abs=1e-6)
    assert (weights("token")[~MASK_BT] == 1).all()


def test_every_option_accepts_what_verl_accepts():
    assert {name for names, _ in ACCEPTED for name in names.split(",")} > set(REJECTIONS)
    for (names, thresholds), rows in ACCEPTED.items():
        got_BT = accepted_tokens(GAP_BT, torch.zeros_like(GAP_BT), MASK_BT, rejections(names, thresholds))
        found = " ".join("".join(str(int(x)) for x in row) for row in got_BT)
        assert found == rows, names


def test_the_geometric_weight_is_a_capped_geometric_mean_without_gradient():
    old_BT = torch.tensor([[0.1, 0.3, 9.0], [2.0, 4.0, 9.0], [5.0, 5.0, 5.0]], requires_grad=True)
    mask_BT = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    got = log_rollout_weights(old_BT, torch.zeros(3, 3), mask_BT, "geometric", 2.0)
    assert got.exp().tolist() == pytest.approx([math.exp(0.2), 2.0, 1.0], rel=1e-6)
    assert not got.requires_grad


def test_a_token_whose_log_prob_is_no_number_is_rejected():
    old_BT = torch.tensor([[-1.0, math.nan, -1.0]])
    accepted_BT = accepted_tokens(old_BT, old_BT, torch.ones(1, 3), rejections("token_k3", 0.1))
    assert accepted_BT.tolist() == [[True, False, True]]
    assert not accepted_tokens(old_BT, old_BT, torch.ones(1, 3), rejections("seq_max_k2", 0.1)).any()


@pytest.mark.parametrize(
    ("options", "thresholds", "says"),
    [
        ("token_k4", 1.0, "there is no 'token_k4'; did you mean token_k"),
        ("seq_max_k1", 2.0, "there is no 'seq_max_k1'"),
        ("", 1.0, "name each option once"),
        ("token_k1,token_k1", 2.0, "name each option once"),
        ("token_k1", None, "it needs rollout_rs_threshold"),
        ("token_k1,token_k2,token_k3", "1.0,2.0", "one for each of the 3"),
        ("token_k2", "0.5_2.0", "token_k2 has an upper limit alone"),
        ("token_k1", "1.0_2.0", "on both sides of 1"),
        ("token_k1", "1_5", 'Write "0.5_2.0", with the quotes'),
        ("seq_mean_k1", "1.5_2.0", "on both sides of 1"),
        ("token_k1", "0.1_0.5", "on both sides of 1"),
        ("token_k1", 1, "on both sides of 1"),
        ("token_k1", math.inf, "the lower one above 0"),
        ("token_k1", 0.52, "of token_k1: nothing lies between 1.92308 and 0.52"),
        ("seq_mean_k3,token_k1", 0.01, "one number for seq_mean_k3, token_k1: .* Write one for each"),
        ("token_k1", "-1_2.0", "a number above 0"),
        ("token_k1", "0.5_1_2", "a number above 0"),
        ("token_k1", "_2.0", "a number above 0"),
        ("token_k3", "much", "a number above 0"),
        ("token_k3", math.nan, "a number above 0"),
        ("token_k3", 0, "a number above 0"),
    ],
)
def test_thresholds_that_say_nothing_are_refused(options, thresholds, says):
    with pytest.raises(ValueError, match=says):
        rejections(options, thresholds)


def test_a_weight_bounded_below_one_and_an_unknown_kind_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        weights("token", 0.5)
    with pytest.raises(ValueError, match="did you mean token"):
        weights("tokens")


def test_a_sampler_that_is_the_old_policy_is_left_as_it_is():
    """And so it is under `old_log_probs: rollout`, where the old policy is the sampler by definition."""
    old_BT = -torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    mask_BT = torch.arange(6) < torch.tensor([6, 3, 1, 0])[:, None]
    for kind in ("token", "sequence", "geometric"):
        assert not log_rollout_weights(old_BT, old_BT, mask_BT, kind, 1.0).any()
    narrow = rejections(
        ",".join(REJECTIONS), ",".join("0.999999_1.000001" if n[-2:] == "k1" else "1e-9" for n in REJECTIONS)
    )
    assert torch.equal(accepted_tokens(old_BT, old_BT, mask_BT, narrow), mask_BT)


def test_for_gmpo_token_weights_are_the_geometric_one_truncated_token_by_token():
    this = toy(0)
    by_token, geometric = (
        TABLE["gradients"]("gmpo", this, Correction(kind, math.inf))[0] for kind in ("token", "geometric")
    )
    torch.testing.assert_close(by_token, geometric, rtol=1e-12, atol=1e-15)
    truncated = TABLE["gradients"]("gmpo", this, Correction("token", 1.0))[0]
    plain = TABLE["gradients"]("gmpo", this, Correction())[0]
    log_ratio_BT = (this.old_BT - this.rollout_BT).clamp(max=0.0)
    factor_B = (log_ratio_BT.sum(-1) / this.mask_BT.sum(-1)).exp()
    torch.testing.assert_close(truncated, plain * factor_B[:, None], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("objective", [n for n, o in OBJECTIVES.items() if o.weight == "sequence"])
def test_whole_sequence_weights_have_no_bias(objective):
    for seed in range(3):
        bias, _ = TABLE["bias_and_variance"](objective, toy(seed), Correction("sequence", math.inf))
        none, _ = TABLE["bias_and_variance"](objective, toy(seed), Correction())
        assert bias < 1e-12 < 0.05 < none


def test_a_product_s_token_weights_are_the_sequence_s():
    bias, _ = TABLE["bias_and_variance"]("gmpo_nonorm", toy(1), Correction("token", math.inf))
    assert bias < 1e-12


@pytest.mark.parametrize("length", [2, 4])
def test_the_geometric_weight_removes_one_share_in_the_length_of_a_small_bias(length):
    """Whatever is estimated: here any number of each of the responses of two tokens and one length."""
    draw = torch.Generator().manual_seed(length)
    responses_BT = torch.tensor(list(itertools.product([0, 1], repeat=length)))
    places_BT = torch.tensor([[int("".join(map(str, [1, *y[:t]])), 2) for t in range(length)] for y in
                              responses_BT.tolist()])  # fmt: skip
    old = torch.randn(2**length, 2, generator=draw, dtype=torch.float64)
    sampler = old + 1e-5 * torch.randn(2**length, 2, generator=draw, dtype=torch.float64)
    old_BT, rollout_BT = (x.log_softmax(-1)[places_BT, responses_BT] for x in (old, sampler))
    values_B = torch.randn(len(responses_BT), generator=draw, dtype=torch.float64)
    mask_BT = torch.ones_like(responses_BT)
    log_weight_B = log_rollout_weights(old_BT, rollout_BT, mask_BT, "geometric", math.inf)
    chance_B, target = rollout_BT.sum(-1).exp(), old_BT.sum(-1).exp() @ values_B
    plain, weighed = chance_B @ values_B - target, (chance_B * log_weight_B.exp()) @ values_B - target
    assert float(weighed / plain) == pytest.approx(1 - 1 / length, rel=1e-3)


def test_the_bias_of_truncated_weights_is_what_lies_above_the_threshold():
    this = toy(2)
    gradient_BK, _ = TABLE["gradients"]("gmpo", this, Correction())
    mean_K, _ = TABLE["expected"](
        *TABLE["gradients"]("gmpo", this, Correction("sequence", 1.5)), this.chance_B(this.rollout_BT)
    )
    old_B, sampler_B = this.chance_B(this.old_BT), this.chance_B(this.rollout_BT)
    above_B = (1 - 1.5 * sampler_B / old_B).clamp(min=0.0)
    torch.testing.assert_close(mean_K, old_B @ gradient_BK - (old_B * above_B) @ gradient_BK)


def test_rejected_tokens_leave_the_mean_and_rejected_responses_the_denominator():
    draw = torch.Generator().manual_seed(4)
    new_BT, old_BT = (-torch.rand(3, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    gap_BT = torch.tensor([[0.0, 3.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    mask_BT = torch.arange(4) < torch.tensor([4, 4, 3])[:, None]
    accepted_BT = accepted_tokens(old_BT, old_BT - gap_BT, mask_BT, rejections("token_k1", 2.0))
    assert accepted_BT.sum(-1).tolist() == [3, 0, 3]
    kept = torch.tensor([0, 2, 3])  # of the first response
    for objective in OBJECTIVES:
        given = (new_BT, old_BT, accepted_BT, torch.tensor([1.0, 1.0, -1.0]))
        loss = per_sequence_loss(objective, *given)
        alone = per_sequence_loss(
            objective, new_BT[:1, kept], old_BT[:1, kept], torch.ones(1, 3), torch.tensor([1.0])
        )
        torch.testing.assert_close(loss.loss_B[:1], alone.loss_B, msg=objective)
        of_token = OBJECTIVES[objective].weight == "token"
        assert loss.weight_B.tolist() == ([3, 0, 3] if of_token else [1, 0, 1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_where_all_is_rejected_loss_and_gradient_are_zero(objective):
    log_probs_BT = torch.full((2, 3), -1.0, requires_grad=True)
    nothing_BT = torch.zeros(2, 3, dtype=torch.bool)
    loss = per_sequence_loss(objective, log_probs_BT, log_probs_BT - 1, nothing_BT, torch.ones(2))
    whole = reduce_loss(loss.loss_B, loss.weight_B, total_weight(loss.weight_B))
    whole.backward()
    assert whole == 0
    assert log_probs_BT.grad is not None
    assert not log_probs_BT.grad.any()  # nor NaN


def test_the_page_s_table_is_as_the_code_is():
    page = TABLE["PAGE"]
    assert page.text() == page.written(), "write it anew: python benchmarks/correction_table.py --write"
