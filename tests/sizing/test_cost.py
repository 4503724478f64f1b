"""The cost of a row is what the matrix products of the real model add up to."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from families.tiny import each_family
from tiny_families import save_tiny_family, save_tiny_text
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2_5_VLConfig, Qwen2Config

from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.geometry import delta_shape, experts
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.sizing.cost import (
    Cost,
    Rates,
    Shape,
    pictures_cost,
    plain_cost,
    rates,
    shared_cost,
    training_cost,
    unique_token_bound,
    work,
)
from gmpo_vl.sizing.parameters import model_size, size_of
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example

CPU = torch.device("cpu")
QWEN_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}
VIT = {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 2048}


def save(folder, family):
    if family == "qwen2":
        return save_tiny_text(folder)
    return save_tiny(folder) if family == "qwen2_5_vl" else save_tiny_family(folder, family)


@pytest.mark.parametrize("way", ["shared", "plain"])
@pytest.mark.parametrize(
    "family",
    [
        "qwen2",
        "qwen3",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_vl",
        "qwen2_moe",
        "qwen3_moe",
        "qwen3_5",
        "qwen3_next",
    ],
)
@pytest.mark.filterwarnings("ignore:prompts are not shared")
def test_linear_layers_and_head_cost_what_torch_counts(family, way, tmp_path):
    folder = save(tmp_path, family)
    model, processor = load_model(folder), load_processor(folder)
    if experts(model.config)[0] and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # torch does not count grouped products
    example = make_examples("train", 1, seed=0)[0] if processor.image else Example("a", "How many?", "1")
    prompt = encode_prompt(example, processor)
    lengths = (7, 7, 7)  # nothing padded
    grids = tuple(tuple(grid) for grid in prompt.image_grid_thw.tolist())
    options = ForwardOptions(way if sharing_obstacle(model.config) is None else "public")
    packed = [(prompt, torch.arange(20, 20 + n)) for n in lengths]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        response_log_probs(model, pack(packed, processor.family, CPU), 1.0, (), options=options)
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    of = rates(model.config)
    cost_of = shared_cost if options.way == "shared" else plain_cost
    cost = cost_of(of, Shape(len(prompt.ids_P), lengths, grids))
    # Pictures go through the ViT once either way.
    patches = of.patch * sum(t * h * w for t, h, w in grids)
    delta = delta_shape(model.config)
    if delta is not None:  # its convolution and its states are no such products
        state = delta.layers * (2 * delta.kernel * delta.convolved + 6 * delta.state)
        cost = replace(cost, layers=cost.layers - cost.layers / of.token * state)
    products = counted["aten.mm"] + counted.get("aten.addmm", 0)
    assert products == pytest.approx(cost.layers + cost.head + patches, rel=1e-12)


TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 200}
MLP = {"intermediate_size": 96}
GROUPED = {**MLP, "num_key_value_heads": 2}
# Kinds that name things otherwise, have no gated MLP, or other experts.
KINDS = {
    "gpt2": {},
    "gpt_neox": {**MLP, "max_position_embeddings": 128},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "bloom": {},
    "phi3": GROUPED,
    "gemma2": {**GROUPED, "head_dim": 16},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**GROUPED, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "starcoder2": GROUPED,
}


def products(model: Any, tokens: int) -> int:
    """Operations of the linear layers and the head, as torch counts them."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    ids_1L = torch.arange(20, 20 + tokens)[None]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), use_cache=False)
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    return counted.get("aten.mm", 0) + counted.get("aten.addmm", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_text_models_of_other_kinds_cost_what_torch_counts(kind):
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **TEXT, **KINDS[kind], **ids)
    of = size_of(config, "here").rates
    assert of is not None
    model = AutoModelForCausalLM.from_config(config).eval()
    assert 64 * (of.token + of.position) == pytest.approx(products(model, 64), rel=0.02)


@each_family()
def test_decoders_of_other_families_cost_what_torch_counts(name, folder_of):
    """Pictures are not counted, as said. MiniCPM-V's states and Gemma 4's inputs of each layer are apart."""
    size = model_size(folder_of(name))
    of = size.rates
    assert of is not None
    assert (of.patch, of.picture_pair, size.pictures_known) == (0, 0, False)
    rel = 0.06 if name in ("minicpmv4_6", "gemma4") else 0.002
    assert 64 * (of.token + of.position) == pytest.approx(products(load_model(folder_of(name)), 64), rel=rel)


def test_attention_is_counted_pair_by_pair():
    of = Rates(token=0, pair=1, position=0)
    shape = Shape(300, (200, 120, 1))
    exact = 300 * 301 / 2 + sum((n - 1) * 300 + (n - 1) * n / 2 for n in shape.responses)
    assert shared_cost(of, shape).total == pytest.approx(exact, rel=0.01)


def test_windows_of_a_picture_are_cheaper_than_the_picture():
    of = Rates(0, 0, 0, patch=0, picture_pair=1, window_pair=3, window_patches=64)
    assert pictures_cost(of, [(1, 16, 16)]).vision == 256 * (256 + 3 * 64)
    assert pictures_cost(of, [(1, 4, 4)]).vision == 16 * (16 + 3 * 16)


def test_one_rollout_shares_nothing_and_many_share_the_prompt():
    of = Rates(token=1e6, pair=10, position=1e5)
    assert unique_token_bound(of, Shape(400, (300,))) == 1
    bounds = [unique_token_bound(of, Shape(400, (300,) * n)) for n in (2, 8, 32)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < 700 / 300 * 1.01
    assert unique_token_bound(of, Shape(100_000, (2,) * 8)) == pytest.approx(8, rel=0.01)


def test_training_counts_the_backward_twice_and_what_runs_again():
    forward = Cost(layers=4, attention=2, head=1, vision=3)
    assert training_cost(forward) == Cost(12, 6, 3, 9)
    assert training_cost(forward, checkpointing=True) == Cost(16, 8, 3, 12)
    assert training_cost(forward, frozen_vision=True).vision == 3


def test_what_is_moved_weighs_more_in_a_narrow_vit():
    """Per operation the ViT of the 3B model moves more than its decoder, and both less than a model of small
    widths."""
    of = rates(Qwen2_5_VLConfig(text_config=QWEN_3B, vision_config=VIT))
    words, pictures = Cost(layers=of.token), Cost(vision=of.patch)
    assert 1 < work(of, words) / words.total < work(of, pictures) / pictures.total < 1.3
    tiny = rates(Qwen2Config(**(QWEN_3B | {"hidden_size": 64, "intermediate_size": 256})))
    assert work(tiny, Cost(layers=tiny.token)) / tiny.token > 1.3
