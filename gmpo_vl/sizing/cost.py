"""What a group costs: floating-point operations of its rows, from the model's own config.

A multiplication and an addition are two operations. Only matrix products are counted (linear layers,
attention scores and their use, the head): norms, activations and softmaxes are not. Causal attention is
counted half: a token looks at what came before it. The backward of a layer costs twice its forward.

`work` adds what is not a product: norms, activations and rotary embeddings move elements through memory and
compute next to nothing. A narrow ViT moves more for each of its operations than a wide decoder. So ranks
dealt by operations alone do not finish together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gmpo_vl.batching.planning import Shape
from gmpo_vl.sizing import fitted_constants


@dataclass(frozen=True)
class Cost:
    """Operations by where they go."""

    layers: float = 0.0
    attention: float = 0.0
    head: float = 0.0
    vision: float = 0.0

    @property
    def total(self) -> float:
        return self.layers + self.attention + self.head + self.vision

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.layers + other.layers,
            self.attention + other.attention,
            self.head + other.head,
            self.vision + other.vision,
        )


@dataclass(frozen=True)
class Rates:
    """Forward operations: per token of the decoder's layers, per query-key pair, per position of the head.

    Of the ViT: per patch, and per pair of patches in all layers that see the whole picture or only a window
    of it. token_elements, patch_elements: elements that a token, a patch moves in all layers (memory.py).
    """

    token: float
    pair: float
    position: float
    token_elements: float = 0.0
    patch_elements: float = 0.0
    patch: float = 0.0
    picture_pair: float = 0.0
    window_pair: float = 0.0
    window_patches: int = 0


def rates(config: Any) -> Rates:
    """From the config of a Qwen2, 2.5 or 3 model, its MoE or VL model; others are taken to be built alike."""
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head_dim, text.num_key_value_heads * head_dim
    # q and o, k and v, MLP.
    layer = 2 * text.hidden_size * (2 * queries + 2 * keys) + _mlp(text)
    moved = 8 * text.hidden_size + 3 * queries + 4 * _mlp_width(text)
    base = Rates(
        token=text.num_hidden_layers * layer,
        pair=text.num_hidden_layers * 4 * queries,
        position=2 * text.hidden_size * text.vocab_size,
        token_elements=text.num_hidden_layers * moved,
    )
    return base if not hasattr(config, "vision_config") else _with_vision(base, config.vision_config)


def _mlp(text: Any) -> float:
    """Gate, up and down of one layer; of the experts that a token goes to, router and shared expert."""
    experts = getattr(text, "num_experts", None) or 0
    gates = experts + (1 if experts and getattr(text, "shared_expert_intermediate_size", 0) else 0)
    return 2 * text.hidden_size * (3 * _mlp_width(text) + gates)


def _mlp_width(text: Any) -> int:
    """Of the MLP that a token goes through, all its experts together."""
    if not getattr(text, "num_experts", None):
        return text.intermediate_size
    shared = getattr(text, "shared_expert_intermediate_size", 0)
    return text.num_experts_per_tok * text.moe_intermediate_size + shared


def _with_vision(base: Rates, vision: Any) -> Rates:
    """Qwen2-VL says `embed_dim` for what the others call `hidden_size`; Qwen2.5-VL's MLP is gated and most of
    its layers see windows; Qwen3-VL has a merger more for each DeepStack layer."""
    kind = vision.model_type.removesuffix("_vision")
    width = vision.embed_dim if kind == "qwen2_vl" else vision.hidden_size
    out = vision.hidden_size if kind == "qwen2_vl" else vision.out_hidden_size
    inner = int(width * vision.mlp_ratio) if kind == "qwen2_vl" else vision.intermediate_size
    matrices = 3 if kind == "qwen2_5_vl" else 2
    block = 2 * (4 * width**2 + matrices * width * inner)
    embed = 2 * width * 3 * vision.temporal_patch_size * vision.patch_size**2
    merged = vision.spatial_merge_size**2 * width
    merger = 2 * merged * (merged + out) / vision.spatial_merge_size**2
    mergers = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
    whole = len(vision.fullatt_block_indexes) if kind == "qwen2_5_vl" else vision.depth
    window = vision.window_size // vision.patch_size if kind == "qwen2_5_vl" else 0
    return replace(
        base,
        patch_elements=vision.depth * (11 * width + (4 if matrices == 3 else 2) * inner),
        patch=embed + vision.depth * block + mergers * merger,
        picture_pair=whole * 4 * width,
        window_pair=(vision.depth - whole) * 4 * width,
        window_patches=window**2,
    )


def pictures_cost(of: Rates, grids: Sequence[tuple[int, int, int]]) -> Cost:
    """Forward of the ViT over some pictures."""
    operations = 0.0
    for t, h, w in grids:
        patches = t * h * w
        windows = of.window_pair * min(of.window_patches, patches)
        operations += patches * (of.patch + of.picture_pair * h * w + windows)
    return Cost(vision=operations)


def shared_cost(of: Rates, shape: Shape) -> Cost:
    """Forward of a group in one packed row: pictures and prompt once; last response tokens are not fed."""
    pairs = shape.prompt**2 / 2
    fed = 0
    for length in shape.responses:
        pairs += (length - 1) * shape.prompt + (length - 1) ** 2 / 2
        fed += length - 1
    return Cost(
        layers=of.token * (shape.prompt + fed),
        attention=of.pair * pairs,
        head=of.position * sum(shape.responses),
    ) + pictures_cost(of, shape.grids)


def plain_cost(of: Rates, shape: Shape) -> Cost:
    """Forward of the same rollouts one at a time, without padding."""
    alone = [shared_cost(of, Shape(shape.prompt, (length,), shape.grids)) for length in shape.responses]
    return sum(alone, Cost())


def training_cost(forward: Cost, checkpointing: bool = False, frozen_vision: bool = False) -> Cost:
    """Forward and backward. checkpointing: layers and ViT run forward twice, the head once.

    frozen_vision: no backward in the ViT.
    """
    times = 4.0 if checkpointing else 3.0
    return Cost(
        layers=times * forward.layers,
        attention=times * forward.attention,
        head=3.0 * forward.head,
        vision=(1.0 if frozen_vision else times) * forward.vision,
    )


def work(of: Rates, cost: Cost) -> float:
    """A cost's time, in operations: its own, and those that fit into the time in which elements move."""
    moved = cost.layers / of.token * of.token_elements
    if of.patch:
        moved += cost.vision / of.patch * of.patch_elements
    return cost.total + fitted_constants.MOVED * moved


def unique_token_bound(
    of: Rates, shape: Shape, checkpointing: bool = False, frozen_vision: bool = False
) -> float:
    """How many times fewer operations the shared row takes in training: no way of sharing is faster."""
    plain, shared = (
        training_cost(cost(of, shape), checkpointing, frozen_vision).total
        for cost in (plain_cost, shared_cost)
    )
    return plain / shared
