"""What the routers of a mixture of experts do: counted on the way of a pass that runs anyway.

    counter = RouterCounter(model)
    response_log_probs(model, packed, ..., routing=counter)      counter.sums_BS: of each of its rows
    Routing(model.config, sums_NS)                               over any rows: shares, entropy, a step's figures

Counted is the position that predicts each response token, once per response token: the prompt's last position for the first.
That is the same whether prompts are shared or not, and however the responses are dealt to ranks or cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gmpo_vl.models.compat import router_logits


def routers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The routers of all layers, in order; none for a dense model."""
    return [m for name, m in model.named_modules() if name.endswith(".mlp.gate")]


@contextmanager
def watch_routers(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Inside, a list that fills with the logits (tokens, experts) of every router that is called, in order."""
    seen: list[torch.Tensor] = []

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        seen.append(router_logits(output))

    handles = [router.register_forward_hook(note) for router in routers(model)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class RouterCounter:
    """Counts a forward. Not a dataclass: FSDP hands a copy of those to the model it wraps.

    sums_BS: float64 (rows, layers x experts + 2) of the last forward: how often each expert was chosen, layer after layer;
    the sum over tokens and layers of the routers' entropies, in nats; the number of tokens.
    """

    def __init__(self, model: torch.nn.Module):
        """Raises ValueError for a model without routers."""
        config: Any = model.config
        text = config.get_text_config()
        self.layers = len(routers(model))
        if self.layers == 0:
            raise ValueError(f"{config.model_type!r} has no routers")
        self.experts, self.active = int(text.num_experts), int(text.num_experts_per_tok)
        self.sums_BS = torch.zeros((0, self.layers * self.experts + 2), dtype=torch.float64)

    def count(self, logits: list[torch.Tensor], counted_M: torch.Tensor, lengths: list[int]) -> None:
        """logits (N, experts) of every layer in order; counted_M: which of the N tokens count, row after row, `lengths`
        of each row, repeats allowed."""
        assert len(logits) == self.layers, f"{len(logits)} routers called, {self.layers} there"
        device, rows, cells = counted_M.device, len(lengths), self.layers * self.experts
        tokens_B = torch.tensor(lengths, device=device)
        row_M = torch.arange(rows, device=device).repeat_interleave(tokens_B)
        logits_LME = torch.stack([logits_NE.detach()[counted_M].float() for logits_NE in logits])
        chosen_LMk = logits_LME.topk(self.active, dim=-1).indices
        first_L = torch.arange(self.layers, device=device) * self.experts
        cell_LMk = chosen_LMk + first_L[:, None, None] + cells * row_M[:, None]
        chosen_BC = torch.bincount(cell_LMk.flatten(), minlength=rows * cells).view(rows, cells)
        log_probs_LME = logits_LME.log_softmax(-1)
        entropy_M = -(log_probs_LME.exp() * log_probs_LME).sum((0, 2), dtype=torch.float64)
        entropy_B = torch.zeros(rows, dtype=torch.float64, device=device).index_add_(0, row_M, entropy_M)
        self.sums_BS = torch.cat([chosen_BC.double(), entropy_B[:, None], tokens_B.double()[:, None]], dim=1)


class Routing:
    """What the counts of some rows say together. config: the model's. sums_NS: as RouterCounter has them."""

    def __init__(self, config: Any, sums_NS: torch.Tensor):
        text = config.get_text_config()
        self.experts, self.active = int(text.num_experts), int(text.num_experts_per_tok)
        self.sums_NS = sums_NS
        self.sums_S = sums_NS.sum(0)
        self.layers = (len(self.sums_S) - 2) // self.experts

    @property
    def tokens(self) -> int:
        return int(self.sums_S[-1])

    @property
    def load_LE(self) -> torch.Tensor:
        """Each expert's share of its layer's choices, times the number of experts: 1 everywhere is even."""
        chosen_LE = self.sums_S[:-2].view(self.layers, self.experts)
        return chosen_LE * self.experts / (self.tokens * self.active)

    @property
    def entropy(self) -> float:
        """Mean over tokens and layers of the router's entropy, in nats; log(experts) where it prefers none."""
        return float(self.sums_S[-2]) / (self.tokens * self.layers)

    def metrics(self) -> dict[str, float]:
        """A step's `router/*` figures (docs/formats.md); empty where nothing was counted."""
        if self.tokens == 0:
            return {}
        return {
            "router/load_max": float(self.load_LE.max()),
            "router/load_min": float(self.load_LE.min()),
            "router/entropy": self.entropy,
            "router/dead_experts": float((self.load_LE == 0).sum()),
        }
