"""What a group costs: floating-point operations of its rows, from the model's own config.

A multiplication and an addition are two operations. Only matrix products are counted (linear layers,
attention scores and their use, the head): norms, activations and softmaxes are not. Causal attention is
counted half: a token looks at what came before it. A recurrent state (gated delta-net) is counted as one
token after the other would use it: read for the key, changed, read for the query. The backward of a layer
costs twice its forward.

`work` adds what is not a product: norms, activations and rotary embeddings move elements through memory and
compute next to nothing. A narrow ViT moves more for each of its operations than a wide decoder. So ranks
dealt by operations alone do not finish together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gmpo_vl.batching.planning import Shape
from gmpo_vl.models.geometry import DeltaShape, TextShape, VisionShape, delta_shape, text_shape, vision_shape
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


def rates(config: Any, text: TextShape | None = None) -> Rates:
    """Of a model. Without `text` its decoder is what its config says (a Qwen2, 2.5, 3 or 3.5, its MoE or VL
    model); parameters.py counts others. Raises UnknownShape. The ViT is 0 where it is not one of Qwen's."""
    text = text_shape(config) if text is None else text
    delta, vision = delta_shape(config), vision_shape(config)
    attending = text.layers - (0 if delta is None else delta.layers)
    # q and o, k and v, MLP with its routers. Beside delta-nets attention has an output gate, as wide as q.
    mlp = 2 * text.hidden * (3 * text.mlp + text.gates)
    attention = 2 * text.hidden * ((2 if delta is None else 3) * text.queries + 2 * text.keys)
    moved = 8 * text.hidden + 3 * text.queries + 4 * text.mlp
    base = Rates(
        token=text.layers * mlp + attending * attention + _delta_token(text, delta),
        pair=attending * 4 * text.queries,
        position=2 * text.hidden * text.vocabulary,
        token_elements=text.layers * moved,
    )
    return base if vision is None else _with_vision(base, vision)


def _delta_token(text: TextShape, delta: DeltaShape | None) -> float:
    """A token in all layers with a recurrent state: projections (q, k, v, gate, out; decay and step of each
    head), convolution, state."""
    if delta is None:
        return 0.0
    projections = 2 * text.hidden * (delta.convolved + 2 * delta.values + 2 * delta.heads)
    return delta.layers * (projections + 2 * delta.kernel * delta.convolved + 6 * delta.state)


def _with_vision(base: Rates, of: VisionShape) -> Rates:
    block = 2 * (4 * of.hidden**2 + (3 if of.gated else 2) * of.hidden * of.mlp)
    embed = 2 * of.hidden * of.patch
    merged = of.merge**2 * of.hidden
    merger = 2 * merged * (merged + of.out) / of.merge**2  # Qwen3-VL has another for each DeepStack layer
    return replace(
        base,
        patch_elements=of.layers * (11 * of.hidden + (4 if of.gated else 2) * of.mlp),
        patch=embed + of.layers * block + (1 + of.deepstack) * merger,
        picture_pair=of.whole * 4 * of.hidden,
        window_pair=(of.layers - of.whole) * 4 * of.hidden,
        window_patches=of.window_patches,
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
