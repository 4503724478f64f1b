"""Rollouts with the training model itself: each prompt is prefilled once, its cache expanded to G samples.

The weights are the trainer's, so there is nothing to synchronise. Log-probs come with the tokens. How prompts
and tokens go through the model is in batched.py, and for models of any other build in public.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel

from gmpo_vl.models.features import FrozenFeatures
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.head import entropy, token_log_probs
from gmpo_vl.models.loading import banned_ids, eos_ids
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout.batched import BatchedRows, runs_in_batches
from gmpo_vl.rollout.cache import state_tokens
from gmpo_vl.rollout.public import PublicRows
from gmpo_vl.rollout.sampling import draw
from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.types import Group, Prompt, Response, Sampling


@dataclass(frozen=True)
class GenerateOptions:
    """How `generate` uses memory, and what it reports.

    max_cached_tokens: prompts run together while their caches hold at most this many tokens. A row's running
        states count as the tokens that take as much memory.
    features: of the pictures, where the ViT is frozen. progress: called with the number of finished prompts.
    """

    max_cached_tokens: int = 65_536
    features: FrozenFeatures | None = None
    progress: Callable[[int], None] | None = None


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    processor: Processor,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    occasions: Sequence[int] | None = None,
    options: GenerateOptions | None = None,
) -> list[Group]:
    """G = `sampling.n` responses to every prompt, in order.

    occasions: which time each prompt is asked (seeds.py), 0 by default. Prompt id and occasion name the group
    and seed its samples, so a prompt that comes twice is answered afresh.
    """
    occasions = occasions if occasions is not None else [0] * len(prompts)
    options = options or GenerateOptions()
    was_training, inner = model.training, unwrap(model)
    model.eval()
    groups: dict[int, Group] = {}
    for chunk in _chunks(inner, processor, prompts, sampling, options.max_cached_tokens):
        asked = [(prompts[i], occasions[i]) for i in chunk]
        samples = _generate_chunk(inner, processor, asked, sampling, options.features)
        for i, responses in zip(chunk, samples):
            groups[i] = Group(f"{prompts[i].example.id}@{occasions[i]}", prompts[i], responses)
        if options.progress is not None:
            options.progress(len(chunk))
    model.train(was_training)
    return [groups[i] for i in range(len(prompts))]


def _chunks(
    model: PreTrainedModel,
    processor: Processor,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    max_cached_tokens: int,
) -> Iterator[list[int]]:
    """Indices of prompts that run together, of similar length, so that little is padded."""
    chunk: list[int] = []
    alone = not runs_in_batches(model, processor.family)
    more = sampling.max_tokens + (0 if alone else state_tokens(model.config))
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids_P)):
        # Sorted by length: the newest prompt is the longest of its chunk.
        cached = (len(chunk) + 1) * sampling.n * (len(prompts[i].ids_P) + more)
        if chunk and (alone or cached > max_cached_tokens):
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


class Rows(Protocol):
    """R responses that are still open, in the model. logits_RV: of each one's next token."""

    logits_RV: torch.Tensor

    def keep(self, index: torch.Tensor) -> None:
        """Continue with these rows only."""
        ...

    def feed(self, token_R: torch.Tensor) -> None:
        """Append a token to every row."""
        ...


class _Tables:
    """The B responses of a chunk as they grow, on the device."""

    def __init__(self, seeds: list[int], sampling: Sampling, device: torch.device) -> None:
        self.seeds, self.sampling = seeds, sampling
        rows, length = len(seeds), sampling.max_tokens
        # Every sample has its own stream of random numbers: what it draws does not depend on its neighbours.
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        uniform = [torch.rand(length, generator=stream, dtype=torch.float64) for stream in streams]
        self.uniform_BT = torch.stack(uniform).to(device)
        self.ids_BT = torch.zeros((rows, length), dtype=torch.int64, device=device)
        self.log_probs_BT = torch.zeros((rows, length), dtype=torch.float32, device=device)
        self.entropy_B = torch.zeros(rows, dtype=torch.float64, device=device)
        self.length_B = torch.full((rows,), length, dtype=torch.int64, device=device)
        self.finished_B = torch.zeros(rows, dtype=torch.bool, device=device)

    def draw_next(self, t: int, row_R: torch.Tensor, log_probs_RV: torch.Tensor) -> torch.Tensor:
        """Draw and keep token t of some rows; returns the tokens (R,)."""
        token_R = draw(log_probs_RV, self.uniform_BT[row_R, t], self.sampling)
        self.ids_BT[row_R, t] = token_R
        self.log_probs_BT[row_R, t] = log_probs_RV.gather(1, token_R[:, None]).squeeze(1).float()
        if self.sampling.with_entropy:
            self.entropy_B[row_R] += entropy(log_probs_RV).double() * ~self.finished_B[row_R]
        return token_R

    def finish(self, length: int, row_R: torch.Tensor, ended_R: torch.Tensor) -> torch.Tensor:
        """Close the rows that ended and were open; returns which rows are still open (R,)."""
        ended_R = ended_R & ~self.finished_B[row_R]
        self.length_B[row_R[ended_R]] = length
        self.finished_B[row_R[ended_R]] = True
        return ~self.finished_B[row_R]

    def responses(self, processor: Processor) -> list[Response]:
        ids_BT, log_probs_BT = self.ids_BT.cpu(), self.log_probs_BT.cpu()
        lengths, finished = self.length_B.tolist(), self.finished_B.tolist()
        found = []
        for b, (seed, end, done) in enumerate(zip(self.seeds, lengths, finished)):
            ids_T, log_probs_T = ids_BT[b, :end].clone(), log_probs_BT[b, :end].clone()
            nats = float(self.entropy_B[b]) if self.sampling.with_entropy else None
            found.append(Response(ids_T, log_probs_T, processor.decode(ids_T), done, seed, nats))
        return found


def _generate_chunk(
    model: PreTrainedModel,
    processor: Processor,
    asked: list[tuple[Prompt, int]],
    sampling: Sampling,
    features: FrozenFeatures | None,
) -> list[list[Response]]:
    """The responses to (prompt, occasion) pairs that run together."""
    n, prompts = sampling.n, [prompt for prompt, _ in asked]
    seeds = [sample_seed(sampling.seed, p.example.id, when, k) for p, when in asked for k in range(n)]
    tables = _Tables(seeds, sampling, model.device)
    banned = banned_ids(model.config)
    eos = torch.tensor(eos_ids(model.generation_config, processor.tokenizer), device=model.device)
    rows = _rows(model, processor, prompts, n, features)
    row_R = torch.arange(len(seeds), device=model.device)  # of the tables, as far as they are still open
    for t in range(sampling.max_tokens):
        log_probs_RV = token_log_probs(rows.logits_RV, sampling.temperature or 1.0, banned)
        token_R = tables.draw_next(t, row_R, log_probs_RV)
        open_R = tables.finish(t + 1, row_R, torch.isin(token_R, eos))
        if t + 1 == sampling.max_tokens or not bool(open_R.any()):
            break
        if open_R.float().mean() < 0.75:
            index = open_R.nonzero().squeeze(1)
            rows.keep(index)
            row_R, token_R = row_R[index], token_R[index]
        rows.feed(token_R)
    responses = tables.responses(processor)
    return [responses[i * n : (i + 1) * n] for i in range(len(prompts))]


def _rows(
    model: PreTrainedModel,
    processor: Processor,
    prompts: list[Prompt],
    n: int,
    features: FrozenFeatures | None,
) -> Rows:
    if runs_in_batches(model, processor.family):
        return BatchedRows(model, processor.family, prompts, n, features)
    (prompt,) = prompts
    return PublicRows(model, processor.family, prompt, n)
