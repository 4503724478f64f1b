"""The same gradient whatever the micro-batches, their order, their padding."""

import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gmpo_vl.policy import per_sequence_loss, reduce_loss, sequence_weights, skippable, total_weight
from gmpo_vl.policy.objectives import OBJECTIVES

LENGTHS = [1, 2, 3, 5, 7, 8, 9, 11, 12, 16, 3, 0]
T = max(LENGTHS)


def batch(seed: int = 0):
    """12 ragged sequences: new and old log-probs, mask and advantages, float64."""
    draw = torch.Generator().manual_seed(seed)
    old_BT = -torch.rand(len(LENGTHS), T, generator=draw, dtype=torch.float64) * 3
    new_BT = old_BT + 0.4 * torch.randn(len(LENGTHS), T, generator=draw, dtype=torch.float64)
    mask_BT = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    return new_BT, old_BT, mask_BT, torch.randn(len(LENGTHS), generator=draw, dtype=torch.float64)


def gradient(
    loss_type: str, parts: list[list[int]], pad: int = 0, seed: int = 0
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the mini-batch, cut into `parts` (lists of rows)."""
    new_BT, old_BT, mask_BT, advantages_B = batch(seed)
    leaf_BT = new_BT.requires_grad_()
    total = total_weight(sequence_weights(loss_type, mask_BT.sum(-1)))
    value = 0.0
    for rows in parts:

        def widen(x):
            return torch.nn.functional.pad(x, (0, pad), value=float("nan") if x.is_floating_point() else 0)

        loss = per_sequence_loss(
            loss_type, widen(leaf_BT[rows]), widen(old_BT[rows]), widen(mask_BT[rows]), advantages_B[rows]
        )
        part = reduce_loss(loss.loss_B, loss.weight_B, total)
        part.backward()
        value += float(part.detach())
    assert leaf_BT.grad is not None
    return value, leaf_BT.grad


def cut(order: list[int], sizes: list[int]) -> list[list[int]]:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [order[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("loss_type", OBJECTIVES)
@pytest.mark.parametrize("sizes", [[12], [6, 6], [4, 4, 4], [1] * 12, [5, 1, 6]])
@pytest.mark.parametrize("pad", [0, 5])
def test_split_order_and_padding_change_nothing(loss_type, sizes, pad):
    rows = list(range(12))
    want_value, want = gradient(loss_type, [rows])
    assert want.norm() > 1e-5
    for order in (rows, rows[::-1], torch.randperm(12, generator=torch.Generator().manual_seed(3)).tolist()):
        value, got = gradient(loss_type, cut(order, sizes), pad)
        assert value == pytest.approx(want_value, rel=1e-12)
        assert (got - want).norm() <= 1e-12 * want.norm()


def test_the_benchmark_shows_ours_the_same_under_every_cut(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "reduction.py"))["main"]()
    errors = {
        line.split("  ")[0].strip(): [float(x) for x in re.findall(r"\(\s*([^)]+)\)", line)[-5:]]
        for line in capsys.readouterr().out.splitlines()
        if "e+00)" in line
    }
    assert max(max(row) for name, row in errors.items() if name.startswith("ours")) < 1e-12
    assert errors["verl geo_mean (formula)"] == [0.0, 1.0, 3.0, 7.0, 15.0]


def test_only_sequences_without_any_gradient_may_be_skipped():
    advantages_B = torch.tensor([0.0, 1.0, 0.0])
    alone = {"kl_coef": 0.0, "entropy_coef": 0.0}
    assert skippable("gmpo", advantages_B, **alone).tolist() == [True, False, True]
    for term in alone:
        assert not skippable("gmpo", advantages_B, **{**alone, term: 1e-3}).any()
    assert not skippable("my_loss.py:mine", advantages_B, **alone).any()


@pytest.mark.parametrize("loss_type", OBJECTIVES)
def test_skipping_them_changes_nothing_while_the_denominator_stays(loss_type):
    new_BT, old_BT, mask_BT, advantages_B = batch()
    advantages_B[[2, 7, 9]] = 0
    total = total_weight(sequence_weights(loss_type, mask_BT.sum(-1)))
    kept = ~skippable(loss_type, advantages_B, kl_coef=0.0, entropy_coef=0.0)
    found = []
    for rows in (torch.ones_like(kept), kept):
        leaf_BT = new_BT.clone().requires_grad_()
        loss = per_sequence_loss(loss_type, leaf_BT[rows], old_BT[rows], mask_BT[rows], advantages_B[rows])
        part = reduce_loss(loss.loss_B, loss.weight_B, total)
        part.backward()
        assert leaf_BT.grad is not None
        found.append((part.item(), leaf_BT.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-14)
    assert torch.equal(found[0][1], found[1][1])


def test_a_mini_batch_without_a_token_has_loss_zero():
    x_BT, mask_BT = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    total = total_weight(sequence_weights("gmpo", mask_BT.sum(-1)))
    loss = per_sequence_loss("gmpo", x_BT, x_BT, mask_BT, torch.ones(2))
    part = reduce_loss(loss.loss_B, loss.weight_B, total)
    part.backward()
    assert part.item() == 0.0
    assert x_BT.grad is not None
    assert not x_BT.grad.any()
