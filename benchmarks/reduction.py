"""Does the gradient of a mini-batch depend on how it is cut into micro-batches? Ours, verl's geo_mean and
EasyR1's.

    python benchmarks/reduction.py

16 ragged sequences in float64, one rank. Each reduction is compared with its own result on the uncut
mini-batch: the norm of the gradient by the policy's parameters, and its relative error. EasyR1 is measured
where its package (called `verl`) can be imported; verl's formula is written out below.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gmpo_vl.policy import per_sequence_loss, reduce_loss, sequence_weights, total_weight

LENGTHS = [4, 9, 15, 22, 30, 41, 55, 64, 80, 97, 110, 131, 160, 200, 240, 300]
PARTS = (1, 2, 4, 8, 16)

# (log_probs_BT, old_BT, mask_BT, advantages_B) of a micro-batch -> what its engine calls backward on.
MicroBatchLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def mini_batch(theta_K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A policy with shared parameters: log pi = log pi_old + features @ theta."""
    draw = torch.Generator().manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))
    old_BT = -torch.rand(shape, generator=draw, dtype=torch.float64)
    features_BTK = torch.randn(*shape, len(theta_K), generator=draw, dtype=torch.float64)
    mask_BT = torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]
    advantages_B = torch.randn(len(LENGTHS), generator=draw, dtype=torch.float64)
    return old_BT + features_BTK @ theta_K, old_BT, mask_BT, advantages_B


def ours(loss_type: str) -> MicroBatchLoss:
    total = total_weight(sequence_weights(loss_type, torch.tensor(LENGTHS)))

    def loss(log_probs_BT, old_BT, mask_BT, advantages_B):
        policy = per_sequence_loss(loss_type, log_probs_BT, old_BT, mask_BT, advantages_B)
        return reduce_loss(policy.loss_B, policy.weight_B, total)

    return loss


def verl_geo_mean(log_probs_BT, old_BT, mask_BT, advantages_B):
    """verl 0.9.1: the same geometric mean, then the mean over the sequences of this micro-batch, never
    rescaled.
    """
    return per_sequence_loss("gmpo", log_probs_BT, old_BT, mask_BT, advantages_B).loss_B.mean()


def easyr1(loss_type: str, loss_avg_mode: str) -> MicroBatchLoss:
    """EasyR1's own loss, weighted by the micro-batch's share of tokens as its actor does (one rank)."""
    from verl.trainer.core_algos import compute_policy_loss  # type: ignore[import-not-found]

    def loss(log_probs_BT, old_BT, mask_BT, advantages_B):
        pg_loss, _ = compute_policy_loss(
            old_log_probs=old_BT,
            log_probs=log_probs_BT,
            advantages=advantages_B[:, None].expand_as(old_BT),
            response_mask=mask_BT.double(),
            clip_ratio_low=0.2,
            clip_ratio_high=0.3,
            clip_ratio_dual=3.0,
            tau_positive=1.0,
            tau_negative=1.05,
            loss_type=loss_type,
            loss_avg_mode=loss_avg_mode,
        )
        return pg_loss * mask_BT.sum() / sum(LENGTHS)

    return loss


def gradient(loss: MicroBatchLoss, parts: int) -> torch.Tensor:
    """By theta, accumulated over `parts` micro-batches of equal numbers of sequences."""
    theta_K = torch.full((8,), 0.05, dtype=torch.float64, requires_grad=True)
    for rows in torch.arange(len(LENGTHS)).chunk(parts):
        loss(*(x[rows] for x in mini_batch(theta_K))).backward()
    assert theta_K.grad is not None
    return theta_K.grad


def print_row(name: str, loss: MicroBatchLoss) -> None:
    whole = gradient(loss, 1)
    cells = []
    for parts in PARTS:
        cut = gradient(loss, parts)
        cells.append(f"{float(cut.norm()):8.4f} ({float((cut - whole).norm() / whole.norm()):7.1e})")
    print(f"{name:24}" + "  ".join(cells))


def main() -> None:
    print("gradient norm (relative error against the uncut mini-batch), by number of micro-batches")
    print(f"{'':24}" + "  ".join(f"{parts:>8} {'':9}" for parts in PARTS))
    for loss_type in ("gmpo", "grpo", "dapo", "dr_grpo"):
        print_row(f"ours {loss_type}", ours(loss_type))
    print_row("verl geo_mean (formula)", verl_geo_mean)
    try:
        rows = {
            f"EasyR1 {t}/{m}": easyr1(t, m)
            for t, m in (("default", "token"), ("default", "seq"), ("gspo", "seq"))
        }
    except ImportError as error:
        print(f"EasyR1: not measured, its package cannot be imported here ({error})")
        return
    for name, loss in rows.items():
        print_row(name, loss)


if __name__ == "__main__":
    main()
