"""Layers with a recurrent state (gated delta-net: Qwen3.5, Qwen3-Next) in a packed row (shared.py).

Such a layer reads its row token by token. Instead of keys and values it keeps two states: the last inputs of
a convolution, and a matrix per head. A response continues from the states at its prompt's end. So the layer's
own forward runs twice:

    over the prompts       padded on the left, so that all end at the last column, where their states are kept
    over the responses     padded on the right, each from its prompt's states

Adapters, fast kernels and autocast stay the layer's own. Gradients flow from responses through the states
into their prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from gmpo_vl.models.geometry import language_model

if TYPE_CHECKING:
    from gmpo_vl.models.layout import Layout, Segment

# Rows of different lengths share a call where padding adds at most a quarter to its tokens, or where the call
# is so small (tokens) that overhead dominates.
PADDING = 1.25
SMALL = 256
# A single token that continues from a state would take the kernels for decoding. They change the states in
# place, and flash-linear-attention's has no backward.
SHORTEST = 2


@dataclass(frozen=True)
class Rows:
    """Prompts or responses that go through a layer in one call. Padding points at the packed row's token 0.

    index_mQ: int64, into the packed row. real_N: int64, positions of the real tokens among all m * Q.
    real_mQ: bool, which are real; None where all are, and for responses. prompt_m: int64, whose states each
    response continues, a row of all prompts' states; None for prompts.
    """

    index_mQ: torch.Tensor
    real_N: torch.Tensor
    real_mQ: torch.Tensor | None = None
    prompt_m: torch.Tensor | None = None

    def to(self, device: torch.device) -> Rows:
        moved = (None if x is None else x.to(device) for x in vars(self).values())
        return Rows(*moved)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Order:
    """A packed row as a layer with a state reads it. inverse_L: each token's place in the calls' results."""

    prompts: tuple[Rows, ...]
    responses: tuple[Rows, ...]
    inverse_L: torch.Tensor


def reading_order(segments: Sequence[Segment], device: torch.device) -> Order:
    """The calls for a packed row's segments, none of them empty."""
    batches = _similar([s for s in segments if s.prefix_length == 0])
    prompts = [_prompt_rows(batch) for batch in batches]
    row_of = {s.start: row for row, s in enumerate(s for batch in batches for s in batch)}
    batches = _similar([s for s in segments if s.prefix_length > 0])
    responses = [_response_rows(batch, [row_of[s.prefix_start] for s in batch]) for batch in batches]
    read_L = torch.cat([rows.index_mQ.flatten()[rows.real_N] for rows in (*prompts, *responses)])
    return Order(
        tuple(rows.to(device) for rows in prompts),
        tuple(rows.to(device) for rows in responses),
        read_L.argsort().to(device),
    )


def _similar(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Batches of segments of similar lengths, for one call each."""
    batches: list[list[Segment]] = []
    alone = 0
    for s in sorted(segments, key=lambda s: s.length):
        together = (len(batches[-1]) + 1) * s.length if batches else 0
        if batches and together <= max(PADDING * (alone + s.length), SMALL):
            batches[-1].append(s)
            alone += s.length
        else:
            batches.append([s])
            alone = s.length
    return batches


def _prompt_rows(segments: Sequence[Segment]) -> Rows:
    length_m1, columns_Q = _columns(segments)
    offset_mQ = columns_Q - (len(columns_Q) - length_m1)
    rows = _rows(segments, offset_mQ, offset_mQ >= 0)
    return rows if bool((offset_mQ >= 0).all()) else Rows(rows.index_mQ, rows.real_N, offset_mQ >= 0)


def _response_rows(segments: Sequence[Segment], prompts: list[int]) -> Rows:
    length_m1, columns_Q = _columns(segments)
    rows = _rows(segments, columns_Q.expand(len(segments), -1), columns_Q < length_m1)
    return Rows(rows.index_mQ, rows.real_N, prompt_m=torch.tensor(prompts))


def _columns(segments: Sequence[Segment]) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths (m, 1), and the numbers of the columns (Q,)."""
    lengths = torch.tensor([s.length for s in segments])
    return lengths[:, None], torch.arange(max(SHORTEST, int(lengths.max())))


def _rows(segments: Sequence[Segment], offset_mQ: torch.Tensor, real_mQ: torch.Tensor) -> Rows:
    start_m1 = torch.tensor([s.start for s in segments])[:, None]
    index_mQ = (start_m1 + offset_mQ).where(real_mQ, torch.zeros(()).long())
    return Rows(index_mQ, real_mQ.flatten().nonzero().squeeze(1))


class Carry:
    """Stands where a layer looks for transformers' cache during one call. transformers' own copies states in
    place, which loses their gradients.

    conv: (m, channels, kernel) and recurrent: (m, heads, key width, value width) before the call, None at a
    row's beginning; after it, the states at the end of the rows.
    """

    def __init__(self, conv: torch.Tensor | None = None, recurrent: torch.Tensor | None = None) -> None:
        self.conv, self.recurrent = conv, recurrent

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        return self.conv

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        return self.recurrent

    def update_conv_state(self, new: torch.Tensor, layer_idx: int, conv_kernel_size: int) -> torch.Tensor:
        """The convolution's inputs, after those that were kept."""
        seen = new if self.conv is None else torch.cat([self.conv, new], dim=-1)
        missing = max(0, conv_kernel_size - seen.shape[-1])
        seen = torch.nn.functional.pad(seen, (missing, 0))
        self.conv = seen[..., -conv_kernel_size:]
        return seen

    def update_recurrent_state(self, new: torch.Tensor, layer_idx: int) -> torch.Tensor:
        self.recurrent = new
        return new


def carry_states(model: PreTrainedModel) -> None:
    """Let the decoder's layers with a state take a `layout`. Without one they do what they did before."""
    for module in language_model(model).modules():
        if type(module).__name__.endswith("GatedDeltaNet"):
            module.forward = MethodType(_forward, module)


def _forward(
    self: Any,
    hidden_states: torch.Tensor,
    cache_params: Any = None,
    attention_mask: torch.Tensor | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """(1, L, hidden) -> the same shape, with a layout."""
    own = MethodType(type(self).forward, self)
    if layout is None:
        return own(hidden_states, cache_params=cache_params, attention_mask=attention_mask, **kwargs)
    order, hidden_LH = layout.reading_order, hidden_states[0]

    def read(rows: Rows, carry: Carry) -> torch.Tensor:
        out_mQH = own(hidden_LH[rows.index_mQ], cache_params=carry, attention_mask=rows.real_mQ, **kwargs)
        return out_mQH.flatten(0, 1)[rows.real_N]

    ends = [Carry() for _ in order.prompts]
    results = [read(rows, end) for rows, end in zip(order.prompts, ends)]
    conv, recurrent = (torch.cat([getattr(end, name) for end in ends]) for name in ("conv", "recurrent"))
    for rows in order.responses:
        results.append(read(rows, Carry(conv[rows.prompt_m], recurrent[rows.prompt_m])))
    return torch.cat(results)[order.inverse_L][None]
