"""`response_log_probs` gives what a plain transformers forward of one rollout at a time gives, gradients
included."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from plain_forward import CPU, assert_equals_one_at_a_time, prompts_of, rows_with

from gmpo_vl.models import head
from gmpo_vl.models.compat import enable_gradient_checkpointing
from gmpo_vl.models.families.qwen import prompt_features
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.tasks.diagrams.data import make_examples


@pytest.mark.parametrize("way", ["shared", "plain"])
@pytest.mark.parametrize("kind", ["images", "mixed", "text"])
def test_log_probs_and_gradients_equal_transformers_own_forward(
    kind, way, tiny_folder, text_folder, all_float64
):
    folder = text_folder if kind == "text" else tiny_folder
    processor, model = load_processor(folder), load_model(folder, torch.float64)
    prompts = prompts_of(kind, processor, make_examples("train", 2, seed=0))
    rows = rows_with(prompts, [[7, 1, 4], [3, 9], [5, 5]])
    assert_equals_one_at_a_time(model, processor, rows, way)


def test_checkpointing_changes_nothing(tiny_folder, all_float64):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64).train()
    rows = rows_with(prompts_of("mixed", processor, make_examples("train", 2, seed=0)), [[7, 1], [3], [5, 2]])
    enable_gradient_checkpointing(model)
    calls = []
    language_model(model).layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append("forward"))
    packed = pack(rows, processor.family, CPU)
    log_probs_BT, _ = response_log_probs(model, packed, 1.0, ())
    log_probs_BT.sum().backward()
    assert len(calls) == 2, "the layer ran again in the backward"
    assert_equals_one_at_a_time(model, processor, rows, "shared")


def test_tied_embeddings(tmp_path, all_float64):
    folder = save_tiny(tmp_path, tied=True)
    processor, model = load_processor(folder), load_model(folder, torch.float64)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    rows = rows_with(prompts_of("images", processor, make_examples("train", 2, seed=0)), [[4, 1], [3, 6]])
    assert_equals_one_at_a_time(model, processor, rows, "shared")


@pytest.mark.parametrize("on_head", [False, True], ids=["layers", "layers and head"])
def test_adapters_count_and_only_they_have_gradients(on_head, tiny_folder, all_float64):
    processor, base = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    settings = LoraConfig(r=4, target_modules=[*targets, "lm_head"] if on_head else targets)
    model = get_peft_model(base, settings)
    with torch.no_grad():  # adapters start at 0, where their effect could not be seen
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    rows = rows_with(prompts_of("mixed", processor, make_examples("train", 2, seed=0)), [[7, 1], [3], [5, 2]])
    gradients = assert_equals_one_at_a_time(model, processor, rows, "shared")
    assert all("lora_" in name for name in gradients)
    assert any("lm_head" in name for name in gradients) == on_head
    packed = pack(rows, processor.family, CPU)
    adapted, _ = response_log_probs(model, packed, 1.0, ())
    with model.disable_adapter():
        base_BT, _ = response_log_probs(model, packed, 1.0, ())
    assert (adapted - base_BT).abs().max() > 1e-3


def test_a_frozen_tower_does_no_gradient_work(tiny_folder, all_float64):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    model.model.visual.requires_grad_(False)
    prompts = prompts_of("images", processor, make_examples("train", 2, seed=0))
    assert all(not f.requires_grad for f in prompt_features(model, prompts, processor.image))
    gradients = assert_equals_one_at_a_time(model, processor, rows_with(prompts, [[4, 1], [3, 6]]), True)
    assert gradients
    assert not any("visual" in name for name in gradients)


def test_each_prompt_and_picture_goes_through_the_model_once(tiny_folder):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder)
    prompts = prompts_of("images", processor, make_examples("train", 2, seed=0))
    seen = {"tokens": 0, "patches": 0, "head": 0}

    def count(name):
        def hook(module, args):
            seen[name] += args[0].shape[-2]

        return hook

    language_model(model).layers[0].mlp.register_forward_pre_hook(count("tokens"))
    model.model.visual.blocks[0].mlp.register_forward_pre_hook(count("patches"))
    model.lm_head.register_forward_pre_hook(count("head"))
    packed = pack(rows_with(prompts, [[7, 1, 4], [3, 9]]), processor.family, CPU)
    response_log_probs(model, packed, 1.0, ())
    assert seen["tokens"] == sum(len(p.ids_P) for p in prompts) + sum(n - 1 for n in (7, 1, 4, 3, 9))
    assert seen["patches"] == sum(int(p.image_grid_thw.prod()) for p in prompts)
    assert seen["head"] == 7 + 1 + 4 + 3 + 9


@pytest.mark.parametrize("way", ["shared", "plain"])
def test_a_way_that_the_model_cannot_go_is_refused(way, tiny_folder):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder)
    model.config.get_text_config().attention_dropout = 0.1
    prompts = prompts_of("images", processor, make_examples("train", 2, seed=0))
    packed = pack(rows_with(prompts, [[7, 1, 4], [3, 9]]), processor.family, CPU)
    with pytest.raises(ValueError, match=f"the way '{way}': attention_dropout is not 0; ask for"):
        response_log_probs(model, packed, 1.0, (), options=ForwardOptions(way))
    public_BT, _ = response_log_probs(model, packed, 1.0, (), options=ForwardOptions("public"))
    assert torch.equal(response_log_probs(model, packed, 1.0, ())[0], public_BT)


def test_a_model_that_cannot_take_a_layout_is_told_apart(tiny_folder):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder)
    language_model(model).config._attn_implementation = "sdpa"
    prompts = prompts_of("images", processor, make_examples("train", 2, seed=0))
    with pytest.raises(RuntimeError, match="use_group_attention"):
        response_log_probs(model, pack(rows_with(prompts, [[2], [3]]), processor.family, CPU), 1.0, ())


def test_a_head_in_chunks_gives_the_same(tiny_folder, monkeypatch):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    prompts = [encode_prompt(e, processor) for e in make_examples("train", 1, seed=0)]
    packed = pack(rows_with(prompts, [[9, 6]]), processor.family, CPU)

    def run():
        model.zero_grad()
        log_probs, entropy = response_log_probs(model, packed, 1.0, (3, 4), with_entropy=True)
        (log_probs.sum() + entropy.sum()).backward()
        return log_probs.detach(), entropy.detach(), model.lm_head.weight.grad.clone()

    whole = run()
    monkeypatch.setattr(head, "HEAD_CHUNK", 4)
    for a, b in zip(whole, run()):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_banned_token_has_no_probability(tiny_folder):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder)
    prompt = encode_prompt(make_examples("train", 1, seed=0)[0], processor)
    banned = banned_ids(model.config)
    assert processor.image_token_id in banned
    packed = pack([(prompt, torch.tensor([processor.image_token_id]))], processor.family, CPU)
    log_probs_BT, _ = response_log_probs(model, packed, 1.0, banned)
    assert log_probs_BT.item() == -torch.inf


@pytest.mark.parametrize("way", ["shared", "plain"])
def test_one_prompt_twice_and_its_rows_anywhere(way, tiny_folder, all_float64):
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    first, second = prompts_of("images", processor, make_examples("train", 2, seed=0))
    again = encode_prompt(first.example, processor)
    (_, a), (_, b), (_, c) = rows_with([first], [[7, 1, 4]])
    rows = [(first, a), (second, c), (first, b), (again, a), (second, b), (first, c)]
    assert_equals_one_at_a_time(model, processor, rows, way)


def test_a_response_without_tokens_is_refused_by_name(tiny_folder):
    processor = load_processor(tiny_folder)
    prompt = encode_prompt(make_examples("train", 1, seed=0)[0], processor)
    with pytest.raises(ValueError, match=f"{prompt.example.id}: a response without a single token"):
        pack([(prompt, torch.tensor([5])), (prompt, torch.tensor([]))], processor.family, CPU)
