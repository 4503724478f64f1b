"""What the routers of a mixture of experts do: counted on the way of a pass that runs anyway.

    tally = RouterTally(model)
    response_log_probs(model, packed, ..., routing=tally)      any number of times, on any rank
    tally.sums                                                 to be added up over ranks
    health(tally)

Counted is the position that predicts each response token, once per response token: the prompt's last position for the first.
That is the same whether prompts are shared or not, and however the responses are cut into micro-batches.
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


class RouterTally:
    """Sums over counted tokens. Not a dataclass: FSDP hands a copy of those to the model it wraps.

    sums: float64 (layers x experts + 2): how often each expert was chosen, layer after layer; the sum of the routers'
    entropies in nats over tokens and layers; the number of tokens.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device | str = "cpu"):
        """Raises ValueError for a model without routers."""
        config: Any = model.config
        text = config.get_text_config()
        self.layers = len(routers(model))
        if self.layers == 0:
            raise ValueError(f"{config.model_type!r} has no routers")
        self.experts, self.active = int(text.num_experts), int(text.num_experts_per_tok)
        self.sums = torch.zeros(self.layers * self.experts + 2, dtype=torch.float64, device=device)

    def add(self, logits: list[torch.Tensor], counted_M: torch.Tensor) -> None:
        """logits (N, experts) of every layer in order; counted_M: int64, which of the N tokens count, repeats allowed."""
        assert len(logits) == self.layers, f"{len(logits)} routers called, {self.layers} there"
        logits_LME = torch.stack([logits_NE.detach()[counted_M].float() for logits_NE in logits])
        chosen_LMk = logits_LME.topk(self.active, dim=-1).indices
        first_L = torch.arange(self.layers, device=chosen_LMk.device) * self.experts
        count = torch.bincount(
            (chosen_LMk + first_L[:, None, None]).flatten(), minlength=self.layers * self.experts
        )
        log_probs_LME = logits_LME.log_softmax(-1)
        entropy = -(log_probs_LME.exp() * log_probs_LME).sum(dtype=torch.float64)
        tokens = torch.tensor(len(counted_M), dtype=torch.float64, device=entropy.device)
        self.sums += torch.cat([count.double(), entropy[None], tokens[None]]).to(self.sums.device)

    @property
    def tokens(self) -> int:
        return int(self.sums[-1])

    @property
    def load_LE(self) -> torch.Tensor:
        """Each expert's share of its layer's choices, times the number of experts: 1 everywhere is even."""
        chosen_LE = self.sums[:-2].view(self.layers, self.experts)
        return chosen_LE * self.experts / (self.tokens * self.active)

    @property
    def entropy(self) -> float:
        """Mean over tokens and layers of the router's entropy, in nats; log(experts) where it prefers none."""
        return float(self.sums[-2]) / (self.tokens * self.layers)


def health(tally: RouterTally) -> dict[str, float]:
    """A step's `router/*` figures (docs/formats.md); empty where nothing was counted."""
    if tally.tokens == 0:
        return {}
    load_LE = tally.load_LE
    return {
        "router/load_max": float(load_LE.max()),
        "router/load_min": float(load_LE.min()),
        "router/entropy": tally.entropy,
        "router/dead_experts": float((load_LE == 0).sum()),
    }
