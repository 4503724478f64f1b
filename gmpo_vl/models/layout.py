"""Who sees whom in a packed row (shared.py), in each kernel's form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch

from gmpo_vl.models.packing import Segment
from gmpo_vl.models.padding import padded, places, similar
from gmpo_vl.models.reading_order import Order, reading_order

SMALL = 1_000_000  # query x key elements of a call in which overhead dominates
# Queries of a response in one call. A masked call also computes the hidden half of a response's own part; in
# pieces, only each piece's own part has such a half.
PIECE = 512


@dataclass(frozen=True)
class _Piece:
    """Queries that see the keys of `seen`, stretches of (start, length), then themselves causally."""

    start: int
    length: int
    seen: tuple[tuple[int, int], ...] = ()

    @property
    def before(self) -> int:
        """Keys before the queries."""
        return sum(length for _, length in self.seen)


@dataclass(frozen=True)
class Block:
    """Rows whose attention is one call. Indices point into the packed row; padding points at 0.

    query_mQ, key_mK: int64. real_N: int64, positions of the real queries among all m * Q; with a mask
    instead, every layer would wait on a GPU for its sum. mask_m1QK: bool, who sees whom; None: causal.
    """

    query_mQ: torch.Tensor
    real_N: torch.Tensor
    key_mK: torch.Tensor
    mask_m1QK: torch.Tensor | None

    def to(self, device: torch.device) -> Block:
        mask = None if self.mask_m1QK is None else self.mask_m1QK.to(device)
        return Block(self.query_mQ.to(device), self.real_N.to(device), self.key_mK.to(device), mask)


@dataclass(frozen=True)
class Varlen:
    """The whole row as one call of a kernel that takes sequences of different lengths, one per segment.

    key_K: int64, the keys of all segments, prefix and own, one after the other. query_ends_S1 and
    key_ends_S1: int32, 0, then the end of each segment's queries and keys. The queries are the row itself.
    """

    key_K: torch.Tensor
    query_ends_S1: torch.Tensor
    key_ends_S1: torch.Tensor
    longest_query: int
    longest_key: int


@dataclass(frozen=True)
class Calls:
    """The whole row in few padded calls. inverse_L: each token's place in their results."""

    blocks: tuple[Block, ...]
    inverse_L: torch.Tensor


class Layout:
    """Who sees whom in a packed row that the segments cover in order, in each kernel's form, made once.

    masks: by a prompt's start in the row, who sees whom of it, (P, P) bool by the name of a kind of layer,
    where that is more than causal (pictures that see themselves both ways). heard: has a layer's attention
    been told of it?

    No dataclass: FSDP would copy it, with its cached tensors, for every layer.
    """

    def __init__(
        self,
        segments: tuple[Segment, ...],
        device: torch.device,
        masks: Mapping[int, Mapping[str, torch.Tensor]] | None = None,
    ) -> None:
        self.segments, self.device, self.heard = segments, device, False
        self._masks = masks or {}
        self._own: dict[int | None, dict[int, torch.Tensor]] = {}
        self._calls: dict[int | None, Calls] = {}

    def own_masks(self, window: int | None) -> dict[int, torch.Tensor]:
        """By a prompt's start, the mask of its own in layers with this window, where it is not the rule."""
        if window not in self._own:
            kind = "full_attention" if window is None else "sliding_attention"
            of_kind = {start: masks[kind] for start, masks in self._masks.items() if kind in masks}
            self._own[window] = {
                start: mask for start, mask in of_kind.items() if not mask.equal(_rule(mask, window))
            }
        return self._own[window]

    def calls(self, window: int | None) -> Calls:
        """For SDPA, in layers where a token sees itself and the window - 1 before it; None: all before it."""
        if window is not None and self._longest <= window:  # it reaches further back than any row
            window = window if self.own_masks(window) or self.own_masks(None) else None
        if window not in self._calls:
            blocks = self._blocks(window)
            places = torch.cat([block.query_mQ.flatten()[block.real_N] for block in blocks])
            self._calls[window] = Calls(blocks, places.argsort())
        return self._calls[window]

    def _blocks(self, window: int | None) -> tuple[Block, ...]:
        prompts, others, own = [], [], self.own_masks(window)
        for s in self.segments:
            if s.start in own:
                continue
            if s.prefix_length == 0 and (window is None or s.length <= window):
                prompts.append(_Piece(s.start, s.length))
            else:
                others += _pieces(s, window)
        blocks = [_causal_block(batch) for batch in _similar(prompts)]
        blocks += [_masked_block(batch, window) for batch in _similar(others)]
        blocks += [_own_block(start, mask) for start, mask in own.items()]
        return tuple(block.to(self.device) for block in blocks)

    @cached_property
    def _longest(self) -> int:
        return max(s.prefix_length + s.length for s in self.segments)

    @cached_property
    def reading_order(self) -> Order:
        """For layers with a recurrent state."""
        return reading_order(self.segments, self.device)

    @cached_property
    def varlen(self) -> Varlen:
        """For flash-attn."""
        stretches = [[(s.prefix_start, s.prefix_length), (s.start, s.length)] for s in self.segments]
        key_K = torch.cat([torch.arange(i, i + n) for parts in stretches for i, n in parts])
        queries = torch.tensor([0, *(s.length for s in self.segments)])
        keys = torch.tensor([0, *(s.prefix_length + s.length for s in self.segments)])
        return Varlen(
            key_K.to(self.device),
            queries.cumsum(0).int().to(self.device),
            keys.cumsum(0).int().to(self.device),
            int(queries.max()),
            int(keys.max()),
        )


def build_layout(
    segments: Sequence[Segment],
    device: torch.device,
    masks: Mapping[int, Mapping[str, torch.Tensor]] | None = None,
) -> Layout:
    """The layout of a packed row, without its empty segments."""
    return Layout(tuple(s for s in segments if s.length > 0), device, masks)


def _rule(mask_PP: torch.Tensor, window: int | None) -> torch.Tensor:
    """bool, as transformers' masks without anything of their own: causal, within the window."""
    place_P = torch.arange(len(mask_PP), device=mask_PP.device)
    return _seen(place_P[:, None] - place_P, window)


def _seen(apart: torch.Tensor, window: int | None) -> torch.Tensor:
    """Does a query see a key that stands so many places before it?"""
    causal = apart >= 0
    return causal if window is None else causal & (apart < window)


def _pieces(s: Segment, window: int | None = None) -> list[_Piece]:
    """A segment in pieces of at most PIECE queries, as equal as possible, with the keys that any of a piece's
    queries sees before it."""
    count = -(-s.length // PIECE)
    ends = [s.length * i // count for i in range(count + 1)]
    prefix, pieces = (s.prefix_start, s.prefix_length), []
    for begin, end in pairwise(ends):
        seen = (prefix, (s.start, begin))
        seen = seen if window is None else _last(seen, window - 1)
        pieces.append(_Piece(s.start + begin, end - begin, seen))
    return pieces


def _last(stretches: tuple[tuple[int, int], ...], count: int) -> tuple[tuple[int, int], ...]:
    """The stretches' last places, as many as `count`."""
    kept = []
    for start, length in reversed(stretches):
        taken = min(length, count)
        kept.append((start + length - taken, taken))
        count -= taken
    return tuple(reversed(kept))


def _similar(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Batches of pieces for one call each."""
    return similar(pieces, lambda p: (p.before, p.length), _cost, SMALL)


def _cost(before: int, length: int) -> int:
    """Query x key elements of attention."""
    return length * (before + length)


def _causal_block(pieces: list[_Piece]) -> Block:
    index, valid = padded([[(p.start, p.length)] for p in pieces])
    return Block(index, places(valid), index, None)  # padding is on the right: causal attention keeps it out


def _masked_block(pieces: list[_Piece], window: int | None = None) -> Block:
    seen, seen_valid = padded([p.seen for p in pieces])
    own, own_valid = padded([[(p.start, p.length)] for p in pieces])
    place_Q = torch.arange(own.shape[1])
    inside = _seen(place_Q[:, None] - place_Q, window).expand(len(pieces), -1, -1)
    before = seen_valid[:, None, :].expand(-1, len(place_Q), -1)
    if window is not None:  # what a piece sees before it is one stretch of its text, up to its first query
        count_m11 = torch.tensor([p.before for p in pieces])[:, None, None]
        before = before & _seen(place_Q[:, None] + count_m11 - torch.arange(seen.shape[1]), window)
    mask = torch.cat([before, inside], dim=2)[:, None]
    return Block(own, places(own_valid), torch.cat([seen, own], dim=1), mask)


def _own_block(start: int, mask_PP: torch.Tensor) -> Block:
    index = torch.arange(start, start + len(mask_PP))[None]
    return Block(index, torch.arange(len(mask_PP)), index, mask_PP[None, None])
