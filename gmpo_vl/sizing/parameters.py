"""How many parameters a model has and how many of them are adapters, counted without its weights; and the
widths of its decoder, as far as its layers are those that its configuration names."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.schema import LoraConfig, ModelConfig
from gmpo_vl.models.adapters import shared_targets
from gmpo_vl.models.geometry import (
    TextShape,
    UnknownShape,
    delta_shape,
    language_model,
    text_shape,
    vision_shape,
    vision_towers,
)
from gmpo_vl.models.loading import auto_class, model_config, model_folder
from gmpo_vl.setup import lora_config
from gmpo_vl.sizing.cost import Rates, rates
from gmpo_vl.sizing.memory import Widths, widths

# What transformers' classes raise for a configuration that is none of theirs.
NO_MODEL = (
    *(ArithmeticError, AssertionError, AttributeError),
    *(ImportError, LookupError, RuntimeError, TypeError),
)
# How far a layer's matrices may be from what its widths say: small ones (norms of heads, sinks) are no error.
NEAR = 0.01


@dataclass(frozen=True, eq=False)
class ModelSize:
    """config: transformers'. vision: parameters of the ViT. model: on the meta device.

    towers: names of the ViTs. text: the decoder's widths; None where its layers are not those of a
    transformer or a gated delta-net, so that neither memory nor operations are known. why: then, in words.
    """

    config: Any
    parameters: int
    vision: int
    model: Any
    towers: tuple[str, ...] = ()
    text: TextShape | None = None
    why: str = ""

    @property
    def rates(self) -> Rates | None:
        return None if self.text is None else rates(self.config, self.text)

    @property
    def widths(self) -> Widths | None:
        return None if self.text is None else widths(self.config, self.text)

    @property
    def pictures_known(self) -> bool:
        """Is it known what pictures cost? So it is where there are none."""
        return vision_shape(self.config) is not None or not self.towers


def model_size(folder: Any, **overrides: Any) -> ModelSize:
    """Build the model on the meta device, which allocates nothing, and count. overrides: of its config.

    Raises ValueError for an override that the configuration does not know and for a configuration of no
    model.
    """
    return size_of(model_config(folder, **overrides), str(folder))


def configured_size(config: Config) -> ModelSize:
    """`model_size` of the model that the run starts from, with the run's own values."""
    model = config.worker.actor.model
    return model_size(model_folder(str(model.model_path)), **model.override_config)


def size_of(config: Any, where: str) -> ModelSize:
    """`model_size` of transformers' configuration. where: the place that an error names."""
    try:
        with torch.device("meta"):
            model = auto_class(config).from_config(config, trust_remote_code=False)
    except NO_MODEL as error:
        raise ValueError(f"{where}: no model can be built from its config.json: {error}") from error
    towers = vision_towers(model)
    size = ModelSize(
        config,
        parameters=sum(p.numel() for p in model.parameters()),
        vision=sum(p.numel() for tower in towers.values() for p in tower.parameters()),
        model=model,
        towers=tuple(towers),
    )
    try:
        return replace(size, text=counted_shape(model))
    except UnknownShape as error:
        return replace(size, why=str(error))


def counted_shape(model: Any) -> TextShape:
    """The decoder's widths by its configuration, held against the matrices of its layers.

    Attention must be what the configuration says. The MLP is as wide as the layers' other matrices make it,
    if all of them were the three of a gated MLP: what a configuration does not name is counted so (shared
    experts, layers without experts, inputs of each layer). Raises UnknownShape.
    """
    config = model.config
    named, delta = text_shape(config), delta_shape(config)
    layers = next((m for m in language_model(model).modules() if _is_stack(m, named.layers)), None)
    if layers is None:
        raise UnknownShape(f"{config.model_type!r} has no list of {named.layers} layers")
    share = _share_of_experts(config)
    attending = [_matrices(module, share) for module in _attention(layers)]
    deltas = [m for m in layers.modules() if type(m).__name__.endswith("GatedDeltaNet")]
    plain = named.hidden * 2 * (named.queries + named.keys)
    gated = plain + named.hidden * named.queries
    if len(attending) + len(deltas) != named.layers or len(deltas) != (delta.layers if delta else 0):
        raise UnknownShape(f"{config.model_type!r} has layers without attention")
    if any(_has_another_state(module) for module in layers.modules()):
        raise UnknownShape(f"{config.model_type!r} has a state that is no gated delta-net's")
    expected = plain if delta is None else gated
    if any(abs(found / expected - 1) > NEAR for found in attending):
        raise UnknownShape(f"the attention of {config.model_type!r} is built otherwise than usual")
    rest = _matrices(layers, share) - sum(attending) - sum(_matrices(m, share) for m in deltas)
    mlp = (rest / named.layers / named.hidden - named.gates) / 3
    return replace(
        named,
        mlp=named.mlp if abs(mlp - named.mlp) < NEAR * mlp else round(mlp),
        head_norms=any(name.endswith(".q_norm") for name, _ in layers.named_modules()),
        routed=named.routed or (0 if share is None else config.get_text_config().num_experts_per_tok),
    )


def _has_another_state(module: torch.nn.Module) -> bool:
    """Does it convolve tokens, as layers with a state do, and is no gated delta-net?"""
    convolves = any(isinstance(part, torch.nn.Conv1d) for part in module.children())
    return convolves and not type(module).__name__.endswith("GatedDeltaNet")


def _is_stack(module: torch.nn.Module, layers: int) -> bool:
    return isinstance(module, torch.nn.ModuleList) and len(module) == layers


def _attention(layers: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The attention of each layer, the outermost module of that name."""
    outer: list[str] = []
    for name, module in layers.named_modules():
        if type(module).__name__.endswith("Attention") and not any(name.startswith(f"{o}.") for o in outer):
            outer.append(name)
            yield module


def _share_of_experts(config: Any) -> float | None:
    """The part of the experts that a token goes to; None where it is not known."""
    text = config.get_text_config()
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    count = next((n for name in names if (n := getattr(text, name, None))), None)
    active = getattr(text, "num_experts_per_tok", None)
    return active / count if count and active else None


def _matrices(module: torch.nn.Module, share: float | None) -> float:
    """Elements of the matrices that a token goes through. share: of the experts."""
    total = 0.0
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            of_experts = ".experts." in name
            if of_experts and share is None:
                raise UnknownShape("it is not known to how many experts a token goes")
            total += parameter.numel() * (share if of_experts and share is not None else 1)
    return total


def lora_parameters(config: Config, size: ModelSize) -> int:
    """Parameters of the adapters, counted as peft itself puts them on: not on linear layers alone, but for
    some kinds also on experts that lie in one tensor."""
    return _adapters(config, size)[0]


def check_adapters(config: Config, size: ModelSize) -> None:
    """Raise ConfigError for LoRA on weights that two parts of the model share: it could not be merged."""
    lora = config.worker.actor.model.lora
    if lora.rank > 0 and (shared := _adapters(config, size)[1]):
        raise ConfigError(
            f"worker.actor.model.lora.target_modules: {lora.target_modules} puts an adapter on "
            f"{', '.join(shared)}, and another part of this {size.config.model_type!r} has the same weights "
            "(tied embeddings), so it could not be merged; leave it out"
        )


def _adapters(config: Config, size: ModelSize) -> tuple[int, list[str]]:
    """Parameters of the adapters, and the names of those that cannot be merged (models/adapters.py)."""
    model = config.worker.actor.model
    lora = model.lora
    settings = lora.rank, lora.alpha, lora.target_modules, lora.exclude_modules
    return _adapters_of(size, settings, model.freeze_vision_tower)


@lru_cache(maxsize=64)
def _adapters_of(
    size: ModelSize, settings: tuple[int, int, str, str | None], frozen: bool
) -> tuple[int, list[str]]:
    from peft import get_peft_model

    lora = lora_config(ModelConfig(lora=LoraConfig(*settings), freeze_vision_tower=frozen), size.towers)
    try:
        with torch.device("meta"):
            model = get_peft_model(copy.deepcopy(size.model), lora)
    except ValueError:
        return 0, []
    parameters = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    return parameters, shared_targets(model)
