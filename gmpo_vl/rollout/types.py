"""What a policy answers: `Sampling` goes in, a `Group` of `Response`s comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from gmpo_vl.data.types import Prompt


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. Temperature 0 is greedy; `top_k` -1 and `top_p` 1.0 truncate nothing."""

    n: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int = 1
    with_entropy: bool = False  # costs another pass over every token's distribution


@dataclass
class Response:
    """One sampled answer.

    ids_T: int64, the end-of-sequence token included when `finished`.
    rollout_log_probs_T: float32, log pi(token) under the sampler's distribution after temperature and banned ids
        (before top-p / top-k).
    finished: False when the answer was cut at `max_tokens`.
    seed: the seed this sample was drawn with: a function of (run seed, prompt id, occasion, sample index).
    entropy: sum over its tokens of their distributions' entropies in nats, where sampling was asked for it.
    """

    ids_T: torch.Tensor
    rollout_log_probs_T: torch.Tensor
    text: str
    finished: bool
    seed: int
    entropy: float | None = None


@dataclass
class Group:
    """One prompt and its G responses. `key` names the group everywhere it travels (text-only prompts too).

    Filled on the way through a step: `scores` (one dict of reward parts per response, `overall` among them),
    `verdicts` (what the verifier said, where the reward has one), `advantages_G`, and per-response
    `old_log_probs` / `ref_log_probs` (float32, shape T of that response). fresh: sampled by the policy that the step starts
    from, not surplus of an earlier step.
    """

    key: str
    prompt: Prompt
    responses: list[Response]
    scores: list[dict[str, float]] = field(default_factory=list)
    verdicts: list[Any] = field(default_factory=list)
    advantages_G: torch.Tensor | None = None
    old_log_probs: list[torch.Tensor] = field(default_factory=list)
    ref_log_probs: list[torch.Tensor] = field(default_factory=list)
    fresh: bool = True
