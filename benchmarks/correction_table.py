"""Bias and variance of each rollout correction, by enumeration: the table of docs/corrections.md.

    python benchmarks/correction_table.py [--write]

A toy policy whose responses can all be listed: two tokens and an end, at most 5 tokens, a table of logits for
each prefix. The sampler's logits are off by normal noise, and the policy has moved away from the old one. The
target is the objective's gradient where the old policy samples. An estimate is what a correction makes of
the sampler's responses, in the limit of a large mini-batch: sum(loss weight) / sum(weight), expected under
the sampler. Bias is the norm of its distance to the target, variance the trace of a single response's
covariance, relative to the target's norm and its square. Means over POLICIES drawn policies.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import torch
from page_table import PageTable, markdown
from torch import Tensor

from gmpo_vl.policy import accepted_tokens, log_rollout_weights, per_sequence_loss, rejections

LONGEST, POLICIES = 5, 10
SPREAD, MISMATCH, STEP = 0.7, 0.3, 0.2  # of logits: standard deviations
OBJECTIVES = ("grpo", "gmpo", "gspo", "dapo", "cispo", "sapo")


class Correction(NamedTuple):
    """As `algorithm.rollout_correction` has it; verl: the preset of this kind, where there is one.

    trusts: `old_log_probs: rollout` in place of a correction."""

    rollout_is: str | None = None
    rollout_is_threshold: float = 2.0
    rollout_rs: str | None = None
    rollout_rs_threshold: str | None = None
    verl: str = ""
    trusts: bool = False

    def __str__(self) -> str:
        if self.trusts:
            return "`old_log_probs: rollout`"
        limit = "no limit" if self.rollout_is_threshold == float("inf") else f"{self.rollout_is_threshold:g}"
        parts = [f"`{self.rollout_is}`, {limit}"] if self.rollout_is else []
        parts += [f"`{self.rollout_rs}`, {self.rollout_rs_threshold}"] if self.rollout_rs else []
        return "; ".join(parts) or "none"


CORRECTIONS = (
    Correction(verl="disabled"),
    Correction("token", verl="decoupled_token_is"),
    Correction("geometric"),
    Correction("sequence", verl="decoupled_seq_is"),
    Correction("sequence", float("inf")),
    Correction(None, 2.0, "token_k1", "0.8_1.25"),
    Correction(None, 2.0, "seq_sum_k1", "0.5_2.0"),
    Correction(None, 2.0, "seq_mean_k1", "0.8_1.25", "decoupled_geo_rs"),
    Correction(None, 2.0, "seq_mean_k3", "0.05", "decoupled_k3_rs"),
    Correction("token", 2.0, "seq_mean_k1", "0.8_1.25", "decoupled_geo_rs_token_tis"),
    Correction("sequence", 2.0, "seq_sum_k1", "0.5_2.0", "decoupled_seq_is_rs"),
    Correction(trusts=True, verl="bypass_ppo_clip"),
)


class Toy(NamedTuple):
    """All B responses of a policy over K = prefixes x 3 logits. jacobian_BTK: d log pi(token) / d logits."""

    new_BT: Tensor
    old_BT: Tensor
    rollout_BT: Tensor
    mask_BT: Tensor
    advantages_B: Tensor
    jacobian_BTK: Tensor

    def chance_B(self, log_probs_BT: Tensor) -> Tensor:
        return (log_probs_BT * self.mask_BT).sum(-1).exp()


def toy(seed: int, mismatch: float = MISMATCH, step: float = STEP) -> Toy:
    draw = random.Random(seed)
    prefixes = [p for length in range(LONGEST) for p in itertools.product("ab", repeat=length)]
    responses = [(*p, ".") for p in prefixes] + list(itertools.product("ab", repeat=LONGEST))
    place = {prefix: i for i, prefix in enumerate(prefixes)}

    def noise(scale: float) -> Tensor:
        return torch.tensor([[draw.gauss(0.0, scale) for _ in "ab."] for _ in prefixes], dtype=torch.float64)

    old = noise(SPREAD)
    sampler, new = old + noise(mismatch), old + noise(step)
    mask_BT = torch.tensor([[t < len(y) for t in range(LONGEST)] for y in responses])
    at_BT = torch.tensor([[place.get(y[:t], 0) for t in range(LONGEST)] for y in responses])
    token_BT = torch.tensor(
        [["ab.".index((*y, *"." * LONGEST)[t]) for t in range(LONGEST)] for y in responses]
    )

    def log_probs_BT(logits: Tensor) -> Tensor:
        chosen_BT = logits.log_softmax(-1)[at_BT].gather(-1, token_BT[..., None]).squeeze(-1)
        return chosen_BT.where(mask_BT, 0.0)

    one_hot = torch.nn.functional.one_hot
    pull_BT3 = one_hot(token_BT, 3) - new.softmax(-1)[at_BT]  # d log softmax / d logits
    jacobian_BTP3 = one_hot(at_BT, len(prefixes))[..., None] * pull_BT3[:, :, None, :]
    rewards_B = torch.tensor([float(draw.random() < 0.4) for _ in responses], dtype=torch.float64)
    chance_B = log_probs_BT(old).sum(-1).exp()
    mean = (chance_B * rewards_B).sum()
    deviation = (chance_B * (rewards_B - mean).square()).sum().sqrt()
    given = (log_probs_BT(new), log_probs_BT(old), log_probs_BT(sampler), mask_BT)
    return Toy(*given, (rewards_B - mean) / deviation, jacobian_BTP3.flatten(2))


def gradients(objective: str, this: Toy, correction: Correction) -> tuple[Tensor, Tensor]:
    """Of each response loss times weight, by the logits (B, K), and its weight (B,)."""
    old_BT = this.rollout_BT if correction.trusts else this.old_BT
    mask_BT, log_weights_BT, factor_B = this.mask_BT, None, None
    if correction.rollout_rs is not None:
        options = rejections(correction.rollout_rs, correction.rollout_rs_threshold)
        mask_BT = accepted_tokens(old_BT, this.rollout_BT, mask_BT, options)
    if correction.rollout_is is not None:
        kind, limit = correction.rollout_is, correction.rollout_is_threshold
        found = log_rollout_weights(old_BT, this.rollout_BT, this.mask_BT, kind, limit)
        log_weights_BT = found.where(mask_BT, 0.0) if kind == "token" else None
        factor_B = None if kind == "token" else found.exp()
    loss = per_sequence_loss(objective, this.new_BT, old_BT, mask_BT, this.advantages_B, log_weights_BT)
    loss = loss if factor_B is None else loss.times(factor_B)
    return torch.einsum("bt,btk->bk", loss.diagnostics.gradient_BT, this.jacobian_BTK), loss.weight_B


def rejected(this: Toy, correction: Correction) -> float:
    """Expected share of the sampler's tokens that do not count."""
    if correction.rollout_rs is None:
        return 0.0
    options = rejections(correction.rollout_rs, correction.rollout_rs_threshold)
    left_BT = accepted_tokens(this.old_BT, this.rollout_BT, this.mask_BT, options)
    chance_B = this.chance_B(this.rollout_BT)
    return 1 - float(chance_B @ left_BT.sum(-1).double() / (chance_B @ this.mask_BT.sum(-1).double()))


def expected(gradient_BK: Tensor, weight_B: Tensor, chance_B: Tensor) -> tuple[Tensor, float]:
    """The mean over a large mini-batch (K,), and the variance of one response's part in it."""
    weight = chance_B @ weight_B
    mean_K = chance_B @ gradient_BK / weight
    apart_B = (gradient_BK - weight_B[:, None] * mean_K).square().sum(-1)
    return mean_K, float(chance_B @ apart_B / weight**2)


def bias_and_variance(objective: str, this: Toy, correction: Correction) -> tuple[float, float]:
    """Relative to the target's norm, and to its square."""
    target_K, _ = expected(*gradients(objective, this, Correction()), this.chance_B(this.old_BT))
    found = gradients(objective, this, correction)
    mean_K, variance = expected(*found, this.chance_B(this.rollout_BT))
    norm = float(target_K.norm())
    return float((mean_K - target_K).norm()) / norm, variance / norm**2


def table() -> str:
    toys = [toy(seed) for seed in range(POLICIES)]
    head = ["correction", "verl's preset", "rejected", *OBJECTIVES]
    rows = []
    for correction in CORRECTIONS:
        share = sum(rejected(this, correction) for this in toys) / len(toys)
        cells = [str(correction), f"`{correction.verl}`" if correction.verl else "", f"{share:.0%}"]
        for objective in OBJECTIVES:
            found = [bias_and_variance(objective, this, correction) for this in toys]
            bias, variance = (sum(values) / len(values) for values in zip(*found))
            cells.append(f"{bias:.3f}, {variance:.1f}")
        rows.append(cells)
    return markdown(head, rows)


PAGE = PageTable("corrections.md", "benchmarks/correction_table.py", table)

if __name__ == "__main__":
    PAGE.main(__doc__)
