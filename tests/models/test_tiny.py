"""Tiny model folders: ordinary Hugging Face folders that any version reads, with Qwen's formats; the packaged
model sees."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import save_tiny_text
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from gmpo_vl.models.loading import load_model
from gmpo_vl.models.moe import packaged_tiny_moe
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.tiny import SPECIAL_TOKENS, packaged_tiny, save_tiny
from gmpo_vl.rollout.hf import generate
from gmpo_vl.tasks.diagrams.data import FAMILIES, QUESTIONS, make_diagram, make_examples
from gmpo_vl.types import Sampling

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_folder_has_what_a_hugging_face_folder_has(folder):
    assert {path.name for path in folder.iterdir()} == FILES


@pytest.mark.parametrize(("size", "low", "high"), [("test", 0.2e6, 0.6e6), ("demo", 0.8e6, 0.9e6)])
def test_transformers_loads_every_weight_into_the_standard_class(tmp_path, size, low, high):
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        save_tiny(tmp_path, size), output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert low < parameters(model) < high
    text = model.config.text_config
    assert text.hidden_size // text.num_attention_heads == 32
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == (size == "demo")


def test_ties_can_be_asked_for(tmp_path):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(save_tiny(tmp_path, tied=True))
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_text_only_folder(tmp_path):
    folder = save_tiny_text(tmp_path)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not (folder / "preprocessor_config.json").exists()
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.std() > 0.1, "random, but not flat"


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    folders = [save_tiny(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    a, b, c = (load_file(f / "model.safetensors") for f in folders)
    assert all(a[name].equal(b[name]) for name in a)
    assert not a["lm_head.weight"].equal(c["lm_head.weight"])
    assert torch.rand(3).equal(_draw_after(before)), (
        "callers' random numbers went on as if nothing had happened"
    )


def _draw_after(state: torch.Tensor) -> torch.Tensor:
    torch.set_rng_state(state)
    return torch.rand(3)


def test_config_is_in_the_published_form(folder):
    """`rope_scaling` and `rope_theta`, as 4.57, EasyR1 and vLLM read them; 5.x translates."""
    text = json.loads((folder / "config.json").read_text())["text_config"]
    assert text["rope_theta"] == 10000.0
    assert text["rope_scaling"] == {"type": "mrope", "mrope_section": [4, 6, 6]}
    assert sum(text["rope_scaling"]["mrope_section"]) * 2 == 32
    assert AutoConfig.from_pretrained(folder).model_type == "qwen2_5_vl"


def test_ids_in_the_config_are_the_tokenizers(folder, tokenizer):
    config = AutoConfig.from_pretrained(folder)
    for name in ("image", "video", "vision_start", "vision_end"):
        token = f"<|{name}_pad|>" if name in ("image", "video") else f"<|{name}|>"
        assert getattr(config, f"{name}_token_id") == tokenizer.convert_tokens_to_ids(token)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert config.text_config.vocab_size == len(tokenizer)


def test_special_tokens_are_one_token_each_and_vanish_when_skipped(tokenizer):
    ids = tokenizer("".join(SPECIAL_TOKENS))["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == list(SPECIAL_TOKENS)
    assert tokenizer.decode(ids, skip_special_tokens=True) == ""


@pytest.mark.parametrize(
    "text", ["180-45-70=65. \\boxed{65}", "∠ABC = 30°, √2\n\n\ttab  two", "1234567890", "<image>né 你好 🙂"]
)
def test_any_text_comes_back_and_digits_are_single_tokens(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    tokens = [tokenizer.decode([i]) for i in ids]
    assert all(len(t) == 1 for t in tokens if any(c.isdigit() for c in t))


def test_prompts_and_answers_are_short(tokenizer):
    """Rollouts dominate the demo's time: at most 40 prompt tokens with the picture's 16, at most 32 answer
    tokens."""
    for question in QUESTIONS:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        assert len(tokenizer(text)["input_ids"]) + 15 <= 40
    for index in range(20 * len(FAMILIES)):
        solution = make_diagram("train", index).solution
        assert len(tokenizer(solution + "<|im_end|>")["input_ids"]) <= 32, (
            solution
        )  # data.max_response_length of configs/demo.yaml


def test_chat_template_renders_pictures_as_qwen2_5_vl_does(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "text", "text": "And "},
                {"type": "image"},
                {"type": "text", "text": "?"},
            ],
        },
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ]
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        f"<|im_start|>user\n{picture}And {picture}?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_random_log_probs_depend_on_the_picture(folder):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
    image_id = model.config.image_token_id
    ids = torch.tensor([[1, *[image_id] * 16, 2]])
    extra = {"mm_token_type_ids": (ids == image_id).int()}
    grid = torch.tensor([[1, 8, 8]])
    with torch.no_grad():
        logits = [
            model(
                input_ids=ids,
                pixel_values=torch.full((64, 1176), value),
                image_grid_thw=grid,
                **_known(model, extra),
            ).logits
            for value in (-1.0, 1.0)
        ]
    assert (logits[0][:, -1] - logits[1][:, -1]).abs().max() > 0.05


def _known(model, extra: dict) -> dict:
    """transformers 5 wants to be told which tokens are pictures; 4.57 finds out itself."""
    import inspect

    return {k: v for k, v in extra.items() if k in inspect.signature(model.forward).parameters}


def test_the_packaged_model_is_small_and_loads_whole():
    folder = packaged_tiny()
    assert {path.name for path in folder.iterdir()} >= FILES | {"README.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert 0.8e6 < parameters(model) < 0.9e6
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"


def test_the_packaged_model_looks_at_the_picture():
    """Right often on its own picture, hardly ever on another problem's."""
    model, processor = load_model(packaged_tiny()).eval(), load_processor(packaged_tiny())
    prompts = [encode_prompt(e, processor) for e in make_examples("validation", 14 * len(FAMILIES), seed=11)]
    # Seven places on, the same family asks the same question about other numbers.
    others = [replace(p, images=prompts[i - len(FAMILIES)].images) for i, p in enumerate(prompts)]
    right, wrong = (share_right(model, processor, each) for each in (prompts, others))
    assert right > 0.25
    assert wrong < 0.1


def share_right(model, processor, prompts) -> float:
    groups = generate(model, processor, prompts, Sampling(n=1, max_tokens=32, temperature=0.0))
    golds = [f"\\boxed{{{p.example.answer}}}" for p in prompts]
    return sum(g.responses[0].text.endswith(gold) for g, gold in zip(groups, golds)) / len(golds)


@pytest.mark.parametrize("packaged", [packaged_tiny, packaged_tiny_moe])
def test_a_packaged_folder_names_what_transformers_and_vllm_look_for(packaged):
    """4.57's Qwen2.5-VL processor takes Qwen2's tokenizers alone, and vLLM 0.11 asks the decoder's
    configuration for the class."""
    tokenizer, config = (kind.from_pretrained(packaged()) for kind in (AutoTokenizer, AutoConfig))
    assert type(tokenizer).__name__ in ("Qwen2Tokenizer", "Qwen2TokenizerFast")
    assert config.get_text_config().architectures == config.architectures
    assert config.architectures
