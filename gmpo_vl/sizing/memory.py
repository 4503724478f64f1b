"""How many bytes a step takes on one device: a sum of named parts, each with the assumption it rests on.

Counted are tensors, and on a CPU the gaps between them; the process with its libraries is not. Activations are what autograd
saves for the backward of this project's forward (models/forward.py): one packed row, fused attention, the head on response
positions only. Elements per token of a layer, with H hidden, Q and K the widths of queries and keys, I of the MLP:

    norms 2 (2 H in the residual's dtype, H as computed)   MLP 4 I (gate, its activation, up, their product)
    attention 3 Q, keys and values as the calls gather them, and who sees whom in float32

Gaps: torch wants blocks at multiples of 64 bytes, for which glibc looks for 64 bytes more and cuts them off again. Something
small soon lies in what was cut off, and the hole that a freed block leaves is then too small for the next one of its size.
Every byte of a step's resident memory above its live blocks is of this kind: with blocks aligned within the request, the
tiny model's update is 7% above them instead of 39%. Blocks of 32 MiB and more are the kernel's and leave no hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from gmpo_vl.batching.planning import Shape
from gmpo_vl.models.features import PATCHES
from gmpo_vl.models.geometry import text_shape, vision_shape
from gmpo_vl.models.head import HEAD_CHUNK
from gmpo_vl.rollout.cache import PREFILLED, ROOM

HEAD_COPIES = 3  # of its logits in float32, at the start of the backward
HEAD_COPIES_WITH_ENTROPY = 5.25  # where the entropy is trained: its two factors, and a mask of a byte, too
ENTROPY_COPIES = 4  # where the entropy is asked for, with a mask
INDEX = 8  # bytes of an index
HEAP_BLOCK = 32 * 2**20  # bytes from which glibc takes a block from the kernel (DEFAULT_MMAP_THRESHOLD_MAX)
# Gaps as a share of the blocks under HEAP_BLOCK at a pass's peak. Measured on two models and six batches (glibc 2.36):
# 0.29 to 0.74, in the middle 0.38, with a backward; 1.1 to 1.8 without, where every block is soon freed again.
GAPS_WITH_BACKWARD, GAPS_WITHOUT = 0.4, 1.5


@dataclass(frozen=True)
class Widths:
    """Of a model; the vision part is 0 for text-only ones. Per layer, in elements."""

    layers: int
    hidden: int
    queries: int
    keys: int
    heads: int
    mlp: int
    vocabulary: int
    vision_layers: int = 0
    vision_hidden: int = 0
    vision_mlp: int = 0  # elements a patch keeps in the MLP
    patch: int = 0
    merge: int = 1
    deepstack: int = 0  # layers of the decoder that get features of their own


@dataclass(frozen=True)
class Setting:
    """What is trained, and how it computes. Bytes an element: weight (parameters, gradients, moments), compute (forward)."""

    parameters: int
    trained: int
    weight_bytes: int = 4
    frozen_bytes: int = 4  # a weight that is not trained
    residual_bytes: int = (
        4  # what goes from layer to layer: autocast leaves it in the weights' dtype, FSDP casts it
    )
    compute_bytes: int = 4
    checkpointing: bool = False
    vision_trained: bool = True
    reference: bool = False
    entropy: bool = False  # is in the loss (entropy_coef)
    gaps: bool = False  # tensors lie in glibc's heap (on a CPU)


@dataclass(frozen=True)
class Part:
    """bytes: of one part, where it is at its largest. assumption: what the number rests on."""

    name: str
    bytes: float
    assumption: str


@dataclass(frozen=True)
class Estimate:
    """held: there in all of a step. On top, at the peak of each phase: generate, log_probs (old policy), update."""

    held: tuple[Part, ...]
    generate: tuple[Part, ...]
    log_probs: tuple[Part, ...]
    update: tuple[Part, ...]

    def of_phase(self, name: str) -> float:
        """Bytes at the highest point of a phase, what is held included."""
        return sum(part.bytes for part in (*self.held, *getattr(self, name)))

    @property
    def peak(self) -> float:
        """Bytes at the highest point of a step."""
        return max(map(self.of_phase, ("generate", "log_probs", "update")))


def widths(config: Any) -> Widths:
    """From the config of a Qwen2, 2.5 or 3 model, or its VL model; others are taken for the like.

    Of experts, those that a token goes to are counted, and the shared one.
    """
    text, vision = text_shape(config), vision_shape(config)
    base = Widths(
        layers=text.layers,
        hidden=text.hidden,
        queries=text.queries,
        keys=text.keys,
        heads=text.heads,
        mlp=text.mlp,
        vocabulary=text.vocabulary,
    )
    if vision is None:
        return base
    return replace(
        base,
        vision_layers=vision.layers,
        vision_hidden=vision.hidden,
        vision_mlp=(4 if vision.gated else 2) * vision.mlp,
        patch=vision.patch,
        merge=vision.merge,
        deepstack=vision.deepstack,
    )


def estimate(
    of: Widths,
    setting: Setting,
    sampled: Sequence[Shape],
    scored: Sequence[Shape],
    updated: Sequence[Shape],
) -> Estimate:
    """Bytes of a step on one device that holds everything.

    sampled: the groups that are sampled together, with the lengths their responses may have. scored, updated: the groups
    (or parts of groups) of the largest forward without and with a backward.
    """
    log_probs = _forward_only(of, setting, scored)
    update = (*_activations(of, setting, updated), _logits(of, setting, updated))
    return Estimate(
        held=_held(setting),
        generate=(*generation(of, setting, sampled), *_cast(setting)),
        log_probs=(*log_probs, *_cast(setting), *_gaps(of, setting, scored, log_probs, GAPS_WITHOUT)),
        update=(*update, *_cast(setting), *_gaps(of, setting, updated, update, GAPS_WITH_BACKWARD)),
    )


def _held(s: Setting) -> tuple[Part, ...]:
    trained = s.trained * s.weight_bytes
    parts = [
        Part(
            "weights",
            trained + (s.parameters - s.trained) * s.frozen_bytes,
            f"{s.parameters:,} parameters, {s.trained:,} of them trained, of {s.weight_bytes} bytes; others {s.frozen_bytes}",
        ),
        Part("gradients", trained, f"{s.trained:,} trained parameters; kept between two updates"),
        Part("optimizer", 2 * trained, "AdamW: two moments in the weights' dtype"),
    ]
    if s.reference:
        parts.append(Part("reference", s.parameters * s.weight_bytes, "a second model for the KL term"))
    return tuple(parts)


def _cast(s: Setting) -> tuple[Part, ...]:
    if s.compute_bytes == s.weight_bytes:
        return ()
    return (
        Part(
            "cast weights",
            s.parameters * s.compute_bytes,
            "autocast keeps its copy of the weights for the backward",
        ),
    )


def _activations(of: Widths, s: Setting, groups: Sequence[Shape]) -> tuple[Part, ...]:
    tokens = sum(shape.prompt + sum(t - 1 for t in shape.responses) for shape in groups)
    keys = sum(shape.prompt + sum(shape.prompt + t - 1 for t in shape.responses) for shape in groups)
    seen = sum((t - 1) * (shape.prompt + t - 1) for shape in groups for t in shape.responses)
    patches = sum(t * h * w for shape in groups for t, h, w in shape.grids)
    c, w = s.compute_bytes, s.residual_bytes
    layer = tokens * (
        of.hidden * (4 * w + 2 * c) + of.queries * 3 * c + of.mlp * 4 * c + of.heads * 4 + 2 * INDEX
    )
    layer += keys * 2 * of.keys * c + seen * 4
    block = patches * (of.vision_hidden * (4 * w + 7 * c) + of.vision_mlp * c)
    ends = tokens * 3 * of.hidden * w  # the last norm
    if s.checkpointing:
        decoder = of.layers * tokens * of.hidden * w + layer
        vision = of.vision_layers * patches * of.vision_hidden * w + block
        how = "checkpointed: the input of every layer, and one layer whole"
    else:
        decoder, vision = of.layers * layer, of.vision_layers * block
        how = "every layer keeps its own for the backward"
    merger = patches * (of.patch * 4 + 5 * of.vision_hidden * c)
    return (
        Part("activations", decoder + ends, f"{tokens:,} tokens in one packed row; {how}"),
        Part(
            "pictures",
            vision + merger if s.vision_trained else patches * of.patch * 4,
            f"{patches:,} patches" + ("" if s.vision_trained else "; the ViT is frozen and keeps nothing"),
        ),
    )


def _logits(of: Widths, s: Setting, groups: Sequence[Shape]) -> Part:
    positions = sum(sum(shape.responses) for shape in groups)
    rows = min(positions, HEAD_CHUNK)
    copies = HEAD_COPIES_WITH_ENTROPY if s.entropy else HEAD_COPIES
    return Part(
        "logits",
        copies * 4 * rows * of.vocabulary,
        f"{copies} copies in float32 of {rows:,} positions, of {positions:,} in all",
    )


def _gaps(
    of: Widths, s: Setting, groups: Sequence[Shape], parts: Sequence[Part], share: float
) -> tuple[Part, ...]:
    """Free memory between the blocks of `parts` that lie in the heap."""
    tokens = sum(shape.prompt + sum(t - 1 for t in shape.responses) for shape in groups)
    patches = sum(t * h * w for shape in groups for t, h, w in shape.grids)
    rows = min(sum(sum(shape.responses) for shape in groups), HEAD_CHUNK)
    widest = tokens * max(of.hidden * s.residual_bytes, of.mlp * s.compute_bytes)
    block = {
        "activations": widest,
        "one layer": widest,
        "pictures": patches * max(of.vision_hidden * s.residual_bytes, of.vision_mlp * s.compute_bytes),
        "logits": 4 * rows * of.vocabulary,
    }
    heap = sum(part.bytes for part in parts if block[part.name] < HEAP_BLOCK)
    if not s.gaps or heap == 0:
        return ()
    return (
        Part(
            "gaps",
            share * heap,
            f"glibc: freed between blocks under 32 MiB in use, {share} times their bytes",
        ),
    )


def _forward_only(of: Widths, s: Setting, groups: Sequence[Shape]) -> tuple[Part, ...]:
    tokens = sum(shape.prompt + sum(t - 1 for t in shape.responses) for shape in groups)
    patches = sum(t * h * w for shape in groups for t, h, w in shape.grids)
    positions = sum(sum(shape.responses) for shape in groups)
    rows = min(positions, HEAD_CHUNK)
    return (
        _one_layer(of, s, tokens, patches, "in one packed row"),
        Part(
            "logits",
            (ENTROPY_COPIES * 4 + 1) * rows * of.vocabulary,
            f"{ENTROPY_COPIES} copies in float32 of {rows:,} positions: the entropy is measured here",
        ),
    )


def _one_layer(of: Widths, s: Setting, tokens: int, patches: int, how: str) -> Part:
    """Without a graph: the MLP's three wide tensors, and four as wide as the residual. Of the ViT's layers likewise."""
    layer = tokens * (3 * of.mlp * s.compute_bytes + 4 * of.hidden * s.residual_bytes)
    block = patches * (
        of.vision_mlp * s.compute_bytes + 4 * of.vision_hidden * s.residual_bytes + 4 * of.patch
    )
    return Part("one layer", max(layer, block), f"{tokens:,} tokens {how}, or {patches:,} patches")


def generation(of: Widths, s: Setting, groups: Sequence[Shape]) -> tuple[Part, ...]:
    """Of groups that are sampled together, the larger of: the prompts going through the model, and the writing of answers."""
    rows = sum(len(shape.responses) for shape in groups)
    prompt = max((shape.prompt for shape in groups), default=0)
    longest = max((shape.prompt + max(shape.responses) for shape in groups), default=0)
    token = 2 * of.layers * of.keys * s.compute_bytes  # of one row
    copied = 1 + 1 / max(1, of.layers)  # a layer is there twice while it gets more room or fewer rows
    prefill = (
        Part("prompts' KV cache", copied * token * len(groups) * prompt, f"{len(groups):,} prompts"),
        *_prefill(of, s, groups),
    )
    writing = (
        Part(
            "KV cache",
            copied * token * rows * (longest + ROOM),
            f"{rows:,} responses of up to {longest:,} tokens with their prompts",
        ),
        Part(
            "sampling",
            4 * 8 * rows * of.vocabulary,
            "the last position's distribution, some copies in float64",
        ),
    )
    return max(prefill, writing, key=lambda parts: sum(part.bytes for part in parts))


def _prefill(of: Widths, s: Setting, groups: Sequence[Shape]) -> tuple[Part, ...]:
    """Prompts in parts of PREFILLED tokens, padded to the longest, and before them pictures in parts of PATCHES patches."""
    if not groups:
        return ()
    prompt = max(shape.prompt for shape in groups)
    patches = max(sum(t * h * w for t, h, w in shape.grids) for shape in groups)
    together = min(len(groups), max(1, PREFILLED // max(1, prompt)))
    looked_at = min(len(groups) * patches, max(PATCHES, patches))
    who_sees_whom = together * prompt * prompt * (1 + s.compute_bytes) if together > 1 else 0
    features = len(groups) * patches // of.merge**2 * (1 + of.deepstack) * of.hidden * s.residual_bytes
    return (
        _one_layer(of, s, together * prompt, looked_at, "of prompts in one forward"),
        Part("mask", who_sees_whom, "of prompts padded to one length: a byte, and a number, of every pair"),
        Part("features", features, f"what the ViT made of the pictures of {len(groups):,} prompts"),
    )


def parts_table(found: Estimate) -> list[str]:
    """The estimate as lines for a person."""
    lines = []
    for field in fields(found):
        for part in getattr(found, field.name):
            lines.append(f"{gib(part.bytes):>9}  {part.name:15} {field.name:9} {part.assumption}")
    return [
        *lines,
        f"{gib(found.peak):>9}  at the peak: what is held, and the largest phase",
    ]


def gib(count: float) -> str:
    """Bytes in a unit that fits."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
