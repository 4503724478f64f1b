"""verl's geo_mean against ours as verl cuts a mini-batch: the table of docs/verl.md (make bench-verl).

    python benchmarks/verl_splits.py

The losses are those that verl has registered, called as its ppo_loss calls them on one rank: with the size of
the mini-batch, and gradients that add up over micro-batches. The 16 ragged sequences of reduction.py.
"""

from __future__ import annotations

import torch
from reduction import LENGTHS, PARTS, gradient
from verl.trainer.ppo.core_algos import get_policy_loss_fn  # type: ignore[import-not-found]
from verl.workers.config import FSDPActorConfig, PolicyLossConfig  # type: ignore[import-not-found]

from gmpo_vl.plugins.verl import PolicyLoss

ROWS = {
    "verl `geo_mean`": PolicyLossConfig(loss_mode="geo_mean"),
    "`gmpo_vl/gmpo`": PolicyLoss(loss_mode="gmpo_vl/gmpo"),
    "`gmpo_vl/gmpo`, verl's clip": PolicyLoss(loss_mode="gmpo_vl/gmpo", log_clip_low=0.2, log_clip_high=0.2),
}


def of_verl(section: PolicyLossConfig):
    config = FSDPActorConfig(
        strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, policy_loss=section
    )
    config.global_batch_info.update(
        dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=len(LENGTHS), loss_scale_factor=None
    )

    def loss(log_probs_BT, old_BT, mask_BT, advantages_B):
        value, _ = get_policy_loss_fn(section.loss_mode)(
            old_log_prob=old_BT,
            log_prob=log_probs_BT,
            advantages=advantages_B[:, None] * mask_BT,
            response_mask=mask_BT,
            config=config,
        )
        return value

    return loss


def cell(cut: torch.Tensor, whole: torch.Tensor) -> str:
    """The cut gradient's norm over the uncut one's, and their relative difference."""
    far = float((cut - whole).norm() / whole.norm())
    return (
        f"{float(cut.norm() / whole.norm()):.2f} ({far:.0%})"
        if far > 0.01
        else f"1 ({far:.0e})".replace(" (0e+00)", "")
    )


def main() -> None:
    print(f"| loss | {' | '.join(f'{parts}' for parts in PARTS)} |")
    print("|---" * (len(PARTS) + 1) + "|")
    uncut = []
    for name, section in ROWS.items():
        loss = of_verl(section)
        whole = gradient(loss, 1)
        uncut.append(whole)
        print(f"| {name} | {' | '.join(cell(gradient(loss, parts), whole) for parts in PARTS)} |")
    theirs, _, ours = uncut
    print(
        f"Uncut, the last row's differs from verl's by {float((ours - theirs).norm() / theirs.norm()):.0e}."
    )


if __name__ == "__main__":
    main()
