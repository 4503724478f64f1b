"""Rollouts with the training model itself: each prompt is prefilled once, its cache expanded to G samples.

The weights are the trainer's, so there is nothing to synchronise. Log-probs come with the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import Cache, PreTrainedModel

from gmpo_vl.models.families import DecoderInputs, Family
from gmpo_vl.models.families.qwen import prompt_features
from gmpo_vl.models.features import FrozenFeatures, looked_at_together
from gmpo_vl.models.forward import deepstack, run_language_model, unwrap
from gmpo_vl.models.head import entropy, token_log_probs
from gmpo_vl.models.loading import banned_ids, eos_ids
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout.cache import PREFILLED, joined, roomy_cache
from gmpo_vl.rollout.sampling import draw
from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.types import Group, Prompt, Response, Sampling


@dataclass(frozen=True)
class GenerateOptions:
    """How `generate` uses memory, and what it reports.

    max_cached_tokens: prompts run together while their caches hold at most this many tokens.
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
    was_training = model.training
    model.eval()
    groups: dict[int, Group] = {}
    for chunk in _chunks(prompts, sampling, options.max_cached_tokens):
        asked = [(prompts[i], occasions[i]) for i in chunk]
        samples = _generate_chunk(unwrap(model), processor, asked, sampling, options.features)
        for i, responses in zip(chunk, samples):
            groups[i] = Group(f"{prompts[i].example.id}@{occasions[i]}", prompts[i], responses)
        if options.progress is not None:
            options.progress(len(chunk))
    model.train(was_training)
    return [groups[i] for i in range(len(prompts))]


def _chunks(prompts: Sequence[Prompt], sampling: Sampling, max_cached_tokens: int) -> Iterator[list[int]]:
    """Indices of prompts that run together, of similar length, so that little is padded."""
    chunk: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids_P)):
        # Sorted by length: the newest prompt is the longest of its chunk.
        cached = (len(chunk) + 1) * sampling.n * (len(prompts[i].ids_P) + sampling.max_tokens)
        if chunk and cached > max_cached_tokens:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


@dataclass
class _Rows:
    """The model's state for responses that are still open. row_R: their rows in the chunk's `_Tables`."""

    row_R: torch.Tensor
    logits_RV: torch.Tensor
    cache: Cache
    next_position_R: torch.Tensor
    attention_mask_RL: torch.Tensor | None

    def keep(self, index: torch.Tensor) -> None:
        """Continue with these rows only."""
        self.row_R = self.row_R[index]
        self.cache.batch_select_indices(index)
        self.next_position_R = self.next_position_R[index]
        if self.attention_mask_RL is not None:
            self.attention_mask_RL = self.attention_mask_RL[index]


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
    looked = _features(model, processor, prompts, features)
    rows = _prefill(model, processor.family, prompts, looked, n)
    for t in range(sampling.max_tokens):
        log_probs_RV = token_log_probs(rows.logits_RV, sampling.temperature or 1.0, banned)
        token_R = tables.draw_next(t, rows.row_R, log_probs_RV)
        open_R = tables.finish(t + 1, rows.row_R, torch.isin(token_R, eos))
        if t + 1 == sampling.max_tokens or not bool(open_R.any()):
            break
        if open_R.float().mean() < 0.75:
            index = open_R.nonzero().squeeze(1)
            rows.keep(index)
            token_R = token_R[index]
        _decode_one(model, rows, token_R)
    responses = tables.responses(processor)
    return [responses[i * n : (i + 1) * n] for i in range(len(prompts))]


def _features(
    model: PreTrainedModel, processor: Processor, prompts: list[Prompt], store: FrozenFeatures | None
) -> list[torch.Tensor]:
    """ViT features of each prompt, from the store where there is one."""
    if store is not None:
        store.learn(prompts)
        return store.of(prompts, model.device)
    parts = looked_at_together(prompts)
    return [feature for part in parts for feature in prompt_features(model, part, processor.image)]


def _prefill(
    model: PreTrainedModel,
    family: Family,
    prompts: list[Prompt],
    features: Sequence[torch.Tensor],
    n: int,
) -> _Rows:
    """Run every prompt once, padded on the left, in parts; expand caches and last logits to n rows each."""
    device = model.device
    longest = max(len(p.ids_P) for p in prompts)
    together = max(1, PREFILLED // longest)
    parts = []
    for i in range(0, len(prompts), together):
        some = slice(i, i + together)
        inputs = family.decoder_inputs(model, prompts[some], features[some])
        parts.append(_prefill_part(model, inputs, longest))
    cache = joined([cache for _, cache in parts])
    cache.batch_repeat_interleave(n)
    padded = any(len(p.ids_P) != longest for p in prompts)
    next_position = torch.tensor([int(p.position_ids_3P.max()) + 1 for p in prompts], device=device)
    return _Rows(
        row_R=torch.arange(len(prompts) * n, device=device),
        logits_RV=torch.cat([logits for logits, _ in parts]).repeat_interleave(n, dim=0),
        cache=cache,
        next_position_R=next_position.repeat_interleave(n),
        attention_mask_RL=_mask(prompts, longest).to(device).repeat_interleave(n, dim=0) if padded else None,
    )


def _mask(prompts: list[Prompt], longest: int) -> torch.Tensor:
    """(prompts, longest) int64: 0 where a prompt is padded on the left."""
    lengths_B1 = torch.tensor([[len(p.ids_P)] for p in prompts])
    return (torch.arange(longest) >= longest - lengths_B1).long()


def _prefill_part(
    model: PreTrainedModel, inputs: Sequence[DecoderInputs], longest: int
) -> tuple[torch.Tensor, Cache]:
    """The last logits (prompts, V) and the cache of prompts that go through the model together."""
    device = model.device
    before = [longest - len(of.embeddings_PH) for of in inputs]
    rows = [pad(of.embeddings_PH, (0, 0, n, 0)) for of, n in zip(inputs, before)]
    positions = [pad(of.positions_KP, (n, 0)) for of, n in zip(inputs, before)]
    pictures = [pad(of.picture_P, (n, 0)) for of, n in zip(inputs, before)]
    mask_BL = torch.arange(longest) >= torch.tensor(before)[:, None]
    out = run_language_model(
        model,
        torch.stack(rows),
        torch.stack(positions, dim=1).to(device),
        mask_BL.long().to(device) if any(before) else None,
        use_cache=True,
        past_key_values=roomy_cache(),
        **deepstack(inputs, torch.stack(pictures)),
    )
    return model.lm_head(out.last_hidden_state[:, -1]), out.past_key_values


def _decode_one(model: PreTrainedModel, rows: _Rows, token_R: torch.Tensor) -> None:
    """Feed one token to every row: new logits, longer cache, next position."""
    if rows.attention_mask_RL is not None:
        ones_R1 = torch.ones_like(rows.attention_mask_RL[:, :1])
        rows.attention_mask_RL = torch.cat([rows.attention_mask_RL, ones_R1], dim=1)
    out = run_language_model(
        model,
        model.get_input_embeddings()(token_R[:, None]),
        rows.next_position_R.expand(3, -1)[:, :, None],
        rows.attention_mask_RL,
        use_cache=True,
        past_key_values=rows.cache,
    )
    rows.logits_RV = model.lm_head(out.last_hidden_state[:, -1])
    rows.next_position_R = rows.next_position_R + 1
