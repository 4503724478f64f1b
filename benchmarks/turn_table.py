"""Which gradient an update of games follows, by enumeration: the table of docs/agents.md.

    python benchmarks/turn_table.py [--write]

A toy game whose episodes can all be listed: at each of at most 8 turns the policy stops or goes on, by a
logit for each turn. A stop scores what was drawn for that turn, from 0 to 1; who never stops scores 0. So
episodes have 1 to 8 turns. Answers have 1 to 4 tokens, of which the first decides: |o| divides a turn's
gradient.

The true gradient is that of the expected score. An estimate is the gradient of

    J = sum_it w_it A_it (prod_j rho_itj)^(1/|o_it|) / sum_it w_it

at ratio 1, expected over all groups of G = 3 episodes, in the limit of a large mini-batch: the expected
numerator over the expected denominator, times the mean number of turns. Its cosine with the true gradient
says whether it points there, its projection as a share of the true length how long it is. Means over TOYS
drawn toys, the advantages as `gmpo_vl.policy.turn_advantages` makes them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from typing import NamedTuple

import torch
from page_table import PageTable, markdown
from torch import Tensor

from gmpo_vl.policy import Episodes, TurnRules, turn_advantages

TURNS, GROUP, TOYS = 8, 3, 10
PAIRS = tuple(itertools.product(("turn", "episode"), ("turns", "episodes")))
# What a column adds: {its head: (estimator, is a turn's gradient divided by |o|)}
COLUMNS = {
    "neither std nor 1/\\|o\\|": ("grpo_no_std", False),
    "std": ("grpo", False),
    "1/\\|o\\|": ("grpo_no_std", True),
    "both": ("grpo", True),
}


class Toy(NamedTuple):
    """All E episodes. chance_E: of each.   pull_K: d log pi(go on) / d logit of each of the K turns, and
    stop_K of stopping.   tokens_K2: |o| of stopping and of going on at each turn.   group: its size."""

    chance_E: Tensor
    scores_E: Tensor
    lengths_E: Tensor
    pull_K: Tensor
    stop_K: Tensor
    tokens_K2: Tensor
    group: int = GROUP

    def gradients(self, episode: int, normed: bool) -> Tensor:
        """d log pi of each of an episode's turns, (T, K); normed: over its |o|."""
        length = int(self.lengths_E[episode])
        stops = episode < TURNS
        slope_K = self.pull_K.clone()
        tokens_K = self.tokens_K2[:, 1].clone()
        if stops:
            slope_K[length - 1], tokens_K[length - 1] = self.stop_K[length - 1], self.tokens_K2[length - 1, 0]
        return torch.diag(slope_K / tokens_K if normed else slope_K)[:length]


def toy(seed: int) -> Toy:
    """Episode e < 8 stops at turn e + 1; the last one never does."""
    draw = random.Random(seed)
    go_on_K = torch.tensor([draw.gauss(1.0, 0.7) for _ in range(TURNS)], dtype=torch.float64).sigmoid()
    reached_K = torch.cat([torch.ones(1, dtype=torch.float64), go_on_K.cumprod(0)])
    scores = [draw.random() for _ in range(TURNS)]
    tokens = [[draw.randint(1, 4), draw.randint(1, 4)] for _ in range(TURNS)]
    return Toy(
        chance_E=torch.cat([reached_K[:-1] * (1 - go_on_K), reached_K[-1:]]),
        scores_E=torch.tensor([*scores, 0.0], dtype=torch.float64),
        lengths_E=torch.tensor([*range(1, TURNS + 1), TURNS]),
        pull_K=1 - go_on_K,
        stop_K=-go_on_K,
        tokens_K2=torch.tensor(tokens, dtype=torch.float64),
    )


def true_gradient(this: Toy) -> Tensor:
    parts = [
        chance * score * this.gradients(e, False).sum(0)
        for e, (chance, score) in enumerate(zip(this.chance_E, this.scores_E))
    ]
    return torch.stack(parts).sum(0)


def group_of(this: Toy, episodes: tuple[int, ...]) -> Episodes:
    lengths_G = this.lengths_E[list(episodes)]
    zeros_N = torch.zeros(int(lengths_G.sum()), dtype=torch.float64)
    episode_N = torch.arange(len(episodes)).repeat_interleave(lengths_G)
    return Episodes(this.scores_E[list(episodes)], episode_N, zeros_N, zeros_N, [""] * len(zeros_N))


def groups(this: Toy) -> list[tuple[tuple[int, ...], float, Episodes]]:
    """Every group of episodes, and how probable it is in any order."""
    found = []
    for episodes in itertools.combinations_with_replacement(range(len(this.chance_E)), this.group):
        orders = math.factorial(this.group) // math.prod(map(math.factorial, Counter(episodes).values()))
        chance = orders * float(this.chance_E[list(episodes)].prod())
        found.append((episodes, chance, group_of(this, episodes)))
    return found


def expected_advantages(this: Toy, baseline: str, estimator: str) -> list[Tensor]:
    """Of each episode how often a group has it, times its turns' advantages there: (T,) each."""
    known, found = groups(this), [torch.zeros(int(n), dtype=torch.float64) for n in this.lengths_E]
    advantages, _ = turn_advantages([group for _, _, group in known], TurnRules(estimator, baseline))
    for (episodes, chance, group), advantages_N in zip(known, advantages):
        for e, advantages_T in zip(episodes, advantages_N.split(group.episode_N.bincount().tolist())):
            found[e] += chance * advantages_T
    return found


def gradient(this: Toy, advantages: list[Tensor], weight: str, normed: bool) -> Tensor:
    """(K,), times the mean number of turns."""
    lengths_E = this.lengths_E.double()
    weights_E = torch.ones_like(lengths_E) if weight == "turn" else 1 / lengths_E
    above = [w * (a @ this.gradients(e, normed)) for e, (w, a) in enumerate(zip(weights_E, advantages))]
    per_turn = torch.stack(above).sum(0) / (this.group * (this.chance_E @ (weights_E * lengths_E)))
    return per_turn * (this.chance_E @ lengths_E)


def cosine_and_projection(found_K: Tensor, true_K: Tensor) -> tuple[float, float]:
    along = float(found_K @ true_K)
    return along / float(found_K.norm() * true_K.norm()), along / float(true_K @ true_K)


def cells(this: Toy) -> Tensor:
    """Cosine and projection of each pair in each column, (pairs, columns, 2)."""
    known = {
        (baseline, estimator): expected_advantages(this, baseline, estimator)
        for baseline in ("turns", "episodes")
        for estimator in ("grpo_no_std", "grpo")
    }
    true_K = true_gradient(this)
    return torch.tensor(
        [
            [
                cosine_and_projection(gradient(this, known[baseline, estimator], weight, normed), true_K)
                for estimator, normed in COLUMNS.values()
            ]
            for weight, baseline in PAIRS
        ]
    )


def table() -> str:
    means = torch.stack([cells(toy(seed)) for seed in range(TOYS)]).mean(0)
    head = ["`episode_weight`", "`episode_baseline`", *COLUMNS]
    rows = []
    for (weight, baseline), values in zip(PAIRS, means.tolist()):
        found = [f"{cosine:.3f}, {projection:.2f}" for cosine, projection in values]
        rows.append([f"`{weight}`", f"`{baseline}`", *found])
    return markdown(head, rows)


PAGE = PageTable("agents.md", "benchmarks/turn_table.py", table)

if __name__ == "__main__":
    PAGE.main(__doc__)
