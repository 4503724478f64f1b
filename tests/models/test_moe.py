"""A mixture of experts built from a dense model, and one active expert of eight through the shared
forward."""

import json

import pytest
import torch
from plain_forward import assert_equals_one_at_a_time, one_at_a_time, prompts_of, rows_with

from gmpo_vl.models import compat
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.moe import MoeSettings, build_moe, save_tiny_moe
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.routers import RouterCounter, Routing, router_obstacle, routers, watch_routers
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.sizing.memory import widths

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")


@pytest.fixture(scope="module")
def top_1(tmp_path_factory):
    """Eight experts, one active, whose router does prefer some."""
    return save_tiny_moe(tmp_path_factory.mktemp("moe") / "top_1")


@pytest.mark.parametrize("way", ["shared", "plain"])
def test_one_active_expert_equals_transformers_own_forward(way, top_1, all_float64):
    processor, model = load_processor(top_1), load_model(top_1, torch.float64)
    with torch.no_grad():  # the initial weights are small: every gradient would be
        for parameter in model.parameters():
            parameter.mul_(5)
    model.train()  # 4.57 computes experts in another way in evaluation
    if compat.TRANSFORMERS_5:
        model.set_experts_implementation("eager")  # grouped matrix products know no float64
    rows = rows_with(prompts_of("text", processor, []), [[7, 1, 4], [3, 9]])
    gradients = assert_equals_one_at_a_time(model, processor, rows, way)
    of_routers = [
        norm for name, g in gradients.items() if name.endswith("gate.weight") for norm in [g.norm()]
    ]
    assert len(of_routers) == 2 * len(routers(model))  # the router's and the shared expert's gate
    assert all(norm > 0 for norm in of_routers)


def test_a_normalised_single_expert_gives_the_router_no_gradient(top_1, tmp_path):
    """Why norm_topk_prob is off."""
    model = load_model(top_1, norm_topk_prob=True)
    processor = load_processor(top_1)
    assert "gets no gradient" in (router_obstacle(model.config) or "")
    packed = pack(rows_with(prompts_of("text", processor, []), [[7], [9]]), TextFamily(), CPU)
    response_log_probs(model, packed, 1.0, ())[0].sum().backward()
    assert all(float(router.weight.grad.abs().max()) < 1e-6 for router in routers(model))
    assert router_obstacle(load_model(top_1).config) is None


def dense_folder(folder):
    """A tiny dense Qwen2 with random weights."""
    from tiny_families import save_tiny_text

    return save_tiny_text(folder)


@pytest.mark.parametrize("active", [1, 2])
def test_copies_with_a_router_that_prefers_none_are_the_dense_model(active, tmp_path):
    dense = dense_folder(tmp_path / "dense")
    settings = MoeSettings(experts=8, active=active, noise=0.0, router_std=0.0)
    mixture = load_model(build_moe(dense, tmp_path / "moe", settings))
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        gap = (mixture(ids).logits - load_model(dense)(ids).logits).abs().max()
    assert gap < 1e-4
    assert type(mixture).__name__ == "Qwen2MoeForCausalLM"


def test_noise_tells_copies_apart_and_the_seed_decides_it(tmp_path):
    from safetensors.torch import load_file

    dense = dense_folder(tmp_path / "dense")
    one, same, other = (
        load_file(build_moe(dense, tmp_path / name, MoeSettings(seed=seed)) / "model.safetensors")
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    first, second = (one[f"model.layers.0.mlp.experts.{e}.up_proj.weight"] for e in (0, 1))
    shared = one["model.layers.0.mlp.shared_expert.up_proj.weight"]
    assert float((first - second).std() / shared.std()) == pytest.approx(0.01 * 2**0.5, rel=0.1)
    assert not torch.equal(first, other["model.layers.0.mlp.experts.0.up_proj.weight"])
    assert torch.equal(shared, load_file(dense / "model.safetensors")["model.layers.0.mlp.up_proj.weight"])


def test_a_folder_without_weights_gives_an_untrained_mixture_of_any_size(tmp_path):
    dense = dense_folder(tmp_path / "dense")
    (dense / "model.safetensors").unlink()
    settings = MoeSettings(experts=4, active=1, experts_from="random", expert_width=32)
    out = build_moe(dense, tmp_path / "moe", settings, num_hidden_layers=3)
    model = load_model(out)
    config = json.loads((out / "config.json").read_text())
    assert len(routers(model)) == config["num_hidden_layers"] == 3
    assert (config["num_experts"], config["num_experts_per_tok"], config["norm_topk_prob"]) == (4, 1, False)
    assert (config["moe_intermediate_size"], config["shared_expert_intermediate_size"]) == (32, 128)
    assert load_processor(out).tokenizer("Make")["input_ids"]


def test_what_cannot_become_a_mixture_is_refused(tmp_path, tiny_folder):
    dense = dense_folder(tmp_path / "dense")
    with pytest.raises(ValueError, match="has weights, which have the shapes"):
        build_moe(dense, tmp_path / "a", MoeSettings(), hidden_size=32)
    with pytest.raises(FileExistsError, match="not empty"):
        build_moe(dense, dense, MoeSettings())
    with pytest.raises(ValueError, match="'qwen2_5_vl': a Qwen2-MoE is made of"):
        build_moe(tiny_folder, tmp_path / "b", MoeSettings())
    with pytest.raises(ValueError, match="3 of 2 experts"):
        MoeSettings(experts=2, active=3)
    with pytest.raises(ValueError, match="copies of the dense MLP have its width"):
        MoeSettings(expert_width=3)
    with pytest.raises(ValueError, match="expert_width is -3"):
        MoeSettings(experts_from="random", expert_width=-3)
    with pytest.raises(ValueError, match="noise -1"):
        MoeSettings(noise=-1)
    (dense / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"hiden_size: not in .*config.json"):
        build_moe(dense, tmp_path / "c", MoeSettings(), hiden_size=32)


def chosen_by_hand(model, rows):
    """How often each (layer, expert) is chosen at the positions that predict response tokens, a rollout at a
    time."""
    layers, experts = len(routers(model)), model.config.num_experts
    count = torch.zeros(layers, experts)
    entropies = []
    for prompt, ids_T in rows:
        with watch_routers(model) as logits, torch.no_grad():
            one_at_a_time(model, prompt, ids_T, 1.0, (), None)
        for layer, logits_LE in enumerate(logits):
            for position in range(len(prompt.ids_P) - 1, len(prompt.ids_P) + len(ids_T) - 1):
                count[layer, logits_LE[position].argmax()] += 1
                probabilities = logits_LE[position].softmax(-1)
                entropies.append(float(-(probabilities * probabilities.log()).sum()))
    return count, sum(entropies) / len(entropies)


def test_routers_are_counted_once_per_response_token_however_they_run(top_1):
    processor, model = load_processor(top_1), load_model(top_1).eval()
    with torch.no_grad():
        for router in routers(model):
            router.weight.mul_(20)
    rows = rows_with(prompts_of("text", processor, []), [[7, 1, 4], [3, 9]])
    count_LE, entropy = chosen_by_hand(model, rows)
    ways = ("shared", "plain") if sharing_obstacle(model.config) is None else ("public",)
    for way in ways:
        for cuts in ([rows], [rows[:2], rows[2:3], rows[3:]]):
            counter, counted = RouterCounter(model), []
            for part in cuts:
                packed = pack(part, TextFamily(), CPU)
                with torch.no_grad():
                    options = ForwardOptions(way, routing=counter)
                    response_log_probs(model, packed, 0.7, (), options=options)
                assert counter.sums_BS[:, -1].tolist() == [len(ids_T) for _, ids_T in part]
                counted.append(counter.sums_BS)
            tally = Routing(model.config, torch.cat(counted))
            assert tally.tokens == 24
            assert torch.equal(tally.load_LE.float(), count_LE * 8 / 24)
            assert tally.entropy == pytest.approx(entropy, rel=1e-5)
    figures = tally.metrics()
    assert figures["router/load_max"] == pytest.approx(float(count_LE.max()) / 3)
    assert figures["router/load_min"] == pytest.approx(float(count_LE.min()) / 3)
    assert figures["router/dead_experts"] == int((count_LE == 0).sum())
    assert Routing(model.config, torch.zeros(0, counter.sums_BS.shape[1])).metrics() == {}


def test_the_memory_estimate_counts_the_active_experts_and_the_shared_one(top_1):
    config = load_model(top_1).config
    assert widths(config).mlp == 1 * config.moe_intermediate_size + config.shared_expert_intermediate_size


def test_a_dense_model_has_no_routers(text_folder):
    model = load_model(text_folder)
    assert routers(model) == []
    assert router_obstacle(model.config) is None
    with pytest.raises(ValueError, match="no routers"):
        RouterCounter(model)


def test_the_packaged_mixture_answers_in_its_form_under_either_transformers():
    from gmpo_vl.models.moe import packaged_tiny_moe
    from gmpo_vl.models.processing import encode_prompt
    from gmpo_vl.rollout.hf import generate
    from gmpo_vl.tasks.countdown.data import TINY, draw_puzzles, row_of
    from gmpo_vl.tasks.countdown.reward import compute_score
    from gmpo_vl.types import Example, Sampling

    processor, model = load_processor(packaged_tiny_moe()), load_model(packaged_tiny_moe()).eval()
    rows = [row_of(puzzle, TINY) for puzzle in draw_puzzles("validation", 12, TINY)]
    prompts = [encode_prompt(Example(r["id"], r["problem"], r["answer"]), processor) for r in rows]
    groups = generate(model, processor, prompts, Sampling(1, 48, temperature=0.0))
    texts = [group.responses[0].text for group in groups]
    inputs = [
        {"response": text, "response_length": len(text), "ground_truth": row["answer"]}
        for text, row in zip(texts, rows)
    ]
    scores = compute_score(inputs)
    assert sum(score["format"] for score in scores) >= 11
    assert sum(score["accuracy"] for score in scores) >= 1
