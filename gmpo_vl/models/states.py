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

from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.layout import Layout
from gmpo_vl.models.reading_order import Rows


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
