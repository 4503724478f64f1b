"""Which experts the routers of a mixture choose: counted during a pass that runs anyway.

    counter = RouterCounter(model)
    response_log_probs(model, packed, ..., options=ForwardOptions(routing=counter))    fills counter.sums_BS
    Routing(model.config, sums_NS)              over any rows: shares, entropy, a step's figures

Each response token counts once, at the position that predicts it: the prompt's last position for the first
token. So counts depend neither on sharing of prompts nor on how responses are dealt to ranks or cut into
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gmpo_vl.models.compat import router_logits
from gmpo_vl.models.geometry import experts


def routers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The routers of all layers, in order; none for a dense model, and none for mixtures that do not choose
    by their largest logits alone (GLM-4.5V chooses groups first, with a bias)."""
    config: Any = model.config
    if experts(config)[0] == 0:
        return []
    return [m for name, m in model.named_modules() if name.endswith(".mlp.gate")]


def router_obstacle(config: Any) -> str | None:
    """Why this model's router would not learn, in words; None where it would, and for models without one."""
    text = config.get_text_config()
    if getattr(text, "num_experts_per_tok", None) == 1 and getattr(text, "norm_topk_prob", False):
        return (
            "its router picks one expert a token and norm_topk_prob is on: the weight of the one is then "
            "always 1, and the router gets no gradient; write norm_topk_prob: false into its config.json"
        )
    return None


@contextmanager
def watch_routers(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Gives a list. Inside the block, every call of a router adds its logits (tokens, experts), in order."""
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
    """Counts a forward. No dataclass: FSDP copies those before it calls the model that it wraps.

    sums_BS: float64 (rows, layers x experts + 2) of the last forward: how often each expert was chosen, layer
    after layer; the sum over tokens and layers of the routers' entropies, in nats; the number of tokens.
    """

    def __init__(self, model: torch.nn.Module):
        """Raises ValueError for a model without routers."""
        config: Any = model.config
        self.layers = len(routers(model))
        if self.layers == 0:
            raise ValueError(f"{config.model_type!r} has no routers")
        self.experts, self.active = experts(config)
        self.sums_BS = torch.zeros((0, self.layers * self.experts + 2), dtype=torch.float64)

    def count(self, logits: list[torch.Tensor], counted_M: torch.Tensor, lengths: list[int]) -> None:
        """logits: (N, experts) of every layer in order. counted_M: which of the N tokens count, row after
        row, repeats allowed. lengths: how many of them each row has."""
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
    """The counts of some rows together. config: the model's. sums_NS: as in RouterCounter."""

    def __init__(self, config: Any, sums_NS: torch.Tensor):
        self.experts, self.active = experts(config)
        self.sums_NS = sums_NS
        self.sums_S = sums_NS.sum(0)
        self.layers = (len(self.sums_S) - 2) // self.experts

    @property
    def tokens(self) -> int:
        return int(self.sums_S[-1])

    @property
    def load_LE(self) -> torch.Tensor:
        """Each expert's share of its layer's choices, times the number of experts: 1 is an even share."""
        chosen_LE = self.sums_S[:-2].view(self.layers, self.experts)
        return chosen_LE * self.experts / (self.tokens * self.active)

    @property
    def entropy(self) -> float:
        """Mean over tokens and layers of the router's entropy, in nats; at most log(experts)."""
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
