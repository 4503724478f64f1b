"""Sampling from models of any build: what their own `generate` says, with their own forward's log-probs."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.families import accepted
from gmpo_vl.models.families.qwen import QwenFamily, mrope_positions
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import group_shared_attention, use_group_attention
from gmpo_vl.models.tiny import tiny_tokenizer
from gmpo_vl.rollout import batched, public
from gmpo_vl.rollout.batched import runs_in_batches
from gmpo_vl.rollout.cache import state_tokens
from gmpo_vl.rollout.hf import GenerateOptions, generate
from gmpo_vl.types import Example, ImageSettings, Prompt, Sampling

VOCABULARY = 200
IMAGE, ENDS = 199, tuple(range(0, 180, 15))  # many ends: rows end at different times
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
WINDOW = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
# Positions of another kind from 40 tokens on: all keys change.
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
LONG = {"rope_scaling": LONG | {"rope_theta": 10000.0, "original_max_position_embeddings": 40}}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# A text model of every kind of cache, position and head, and whether its prompts may be padded.
TEXTS = {
    "llama": ({}, True),
    "gemma2": ({**WINDOW, "query_pre_attn_scalar": 8}, True),  # windows; scaled embeddings, capped logits
    "cohere": ({"logit_scale": 0.3}, True),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, True),  # learnt positions
    "bloom": ({"n_layer": 2, "n_head": 4}, False),  # positions by ALiBi, from the mask
    "mamba": ({"state_size": 8}, False),
    "falcon_h1": (MAMBA, False),  # states and keys in one layer
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, False),
    "phi3": ({**LONG, "original_max_position_embeddings": 40}, False),
    "rwkv": ({"attention_hidden_size": 32}, False),  # no cache whose rows can be chosen
    "minimax": ({"layer_types": DELTA["layer_types"], "num_local_experts": 2}, False),  # makes its own cache
    "qwen3_next": ({**DELTA, **EXPERTS, "shared_expert_intermediate_size": 16}, True),
}
REREAD = ["phi3", "rwkv", "minimax"]
if not TRANSFORMERS_5:
    REREAD += ["mamba", "lfm2"]
    TEXTS["qwen3_next"] = TEXTS["qwen3_next"][0], False
    del TEXTS["phi3"]  # its configuration names positions in another way
    del TEXTS["falcon_h1"]  # it reads every text again, a minute long
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Given:
    """A family whose prompts come with their inputs. per_token: those with a value for every token."""

    inputs: dict[int, dict[str, torch.Tensor]]
    image_token_id: int | None = IMAGE

    def public_inputs(self, model, prompt, fed):
        inputs = dict(self.inputs[len(prompt.ids_P)])
        for name, value in inputs.items():
            if name.endswith("type_ids"):
                inputs[name] = torch.nn.functional.pad(value, (0, fed))
        return accepted(model, inputs)


def model_of(config, auto=AutoModelForCausalLM):
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_group_attention(model)  # as loading does
    model.generation_config.eos_token_id = list(ENDS)
    model.generation_config.pad_token_id = 0
    return model


def prompt_of(name, ids):
    ids_P = torch.tensor(ids)
    positions = torch.arange(len(ids_P)).expand(3, -1)
    grid = torch.zeros((0, 3), dtype=torch.int64)
    return Prompt(Example(name, name, "3"), name, ids_P, (), grid, positions)


def texts(lengths=(5, 9, 17)):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(1, 190, (n,), generator=generator).tolist() for n in lengths]
    return [prompt_of(f"text {len(ids)}", ids) for ids in drawn]


def check(model, family, prompts, inputs_of=lambda prompt: {}):
    """Sampled log-probs against the forward of whole texts; greedy answers against `generate`."""
    processor = Processor(tiny_tokenizer_of(), "", family, Path())
    groups = generate(model, processor, prompts, Sampling(n=4, max_tokens=16, seed=3))
    responses = [r for g in groups for r in g.responses]
    assert len({len(r.ids_T) for r in responses}) >= 3, "rows leave on the way"
    assert len({tuple(r.ids_T.tolist()) for r in responses}) > len(responses) / 2
    packed = pack([(g.prompt, r.ids_T) for g in groups for r in g.responses], family, torch.device("cpu"))
    banned = banned_ids(model.config)
    with torch.no_grad():
        whole_BT, _ = response_log_probs(model, packed, 1.0, banned, options=ForwardOptions("public"))
    of_sampler = torch.cat([r.rollout_log_probs_T for r in responses])
    torch.testing.assert_close(of_sampler, whole_BT[packed.mask_BT], rtol=0, atol=1e-4)

    greedy = generate(model, processor, prompts, Sampling(n=2, max_tokens=16, temperature=0.0))
    for prompt, group in zip(prompts, greedy):
        public._forget_positions(model)
        own = model.generate(
            input_ids=prompt.ids_P[None],
            attention_mask=torch.ones_like(prompt.ids_P[None]),
            max_new_tokens=16,
            do_sample=False,
            suppress_tokens=list(banned) or None,
            **inputs_of(prompt),
        )[0, len(prompt.ids_P) :]
        for response in group.responses:
            assert response.ids_T.tolist() == own.tolist()

    one_by_one = generate(
        model, processor, prompts, Sampling(n=4, max_tokens=16, seed=3), options=GenerateOptions(1)
    )
    for one, other in zip(responses, [r for g in one_by_one for r in g.responses]):
        assert one.ids_T.tolist() == other.ids_T.tolist()


def tiny_tokenizer_of():
    tokenizer = tiny_tokenizer()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


@pytest.mark.parametrize("kind", TEXTS)
def test_text_models(kind):
    settings, padded = TEXTS[kind]
    model = model_of(AutoConfig.for_model(kind, **{**TEXT, **settings}))
    with warnings.catch_warnings():
        if kind not in REREAD:
            warnings.filterwarnings("error", ".*no cache that samples can share")
        check(model, TextFamily(), texts())
    assert runs_in_batches(model, TextFamily()) == padded


def llava():
    config = AutoConfig.for_model(
        "llava",
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**VISION, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14},
        image_token_index=IMAGE,
        vision_feature_layer=-1,
    )
    return config, 4, lambda seed: {"pixel_values": noise(seed, 1, 3, 28, 28)}


def gemma3():
    config = AutoConfig.for_model(
        "gemma3",
        text_config={**TEXT, **WINDOW, "model_type": "gemma3_text", "query_pre_attn_scalar": 8},
        vision_config={**VISION, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
    )
    return config, 4, lambda seed: {"pixel_values": noise(seed, 1, 3, 28, 28)}


def glm4v():
    """Keeps how far pictures moved the positions. A mask with one token, and it would read them anew."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {**VISION, "model_type": "glm4v_vision", "depth": 1, "num_heads": 2, "out_hidden_size": 32}
    config = AutoConfig.for_model(
        "glm4v",
        text_config={**TEXT, "model_type": "glm4v_text", "rope_parameters": rope, "rope_scaling": rope},
        vision_config={**vision, "image_size": 56, "patch_size": 14},
        image_token_id=IMAGE,
        video_token_id=198,
        image_start_token_id=197,
        image_end_token_id=196,
        video_start_token_id=195,
        video_end_token_id=194,
    )

    def inputs(seed):
        return {"pixel_values": noise(seed, 48, 1176), "image_grid_thw": torch.tensor([[1, 6, 8]])}

    return config, 12, inputs


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("error:.*no cache that samples can share")
@pytest.mark.parametrize("kind", [llava, gemma3, glm4v])
def test_models_that_see(kind):
    """Prompts with one and with two pictures, and one without after them."""
    config, tokens, pixels = kind()
    model = model_of(config, AutoModelForImageTextToText)
    one, two, none = (prompt.ids_P.tolist() for prompt in texts((7, 9, 60)))
    picture = [IMAGE] * tokens
    prompts, inputs = [], {}
    for ids, count in ((one[:3] + picture + one[3:], 1), (two + [*picture, 7] * 2, 2), (none, 0)):
        prompts.append(prompt_of(f"{count} pictures", ids))
        given = [pixels(seed) for seed in range(count)]
        names = given[0] if given else ()
        inputs[len(ids)] = {name: torch.cat([of[name] for of in given]) for name in names}
        kinds = (prompts[-1].ids_P == IMAGE).long()[None]
        inputs[len(ids)] |= {"token_type_ids": kinds, "mm_token_type_ids": kinds.int()}
    family = Given(inputs)
    check(model, family, prompts, lambda prompt: family.public_inputs(model, prompt, 0))


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 numbers every prompt anew")
def test_positions_that_a_picture_moved_do_not_reach_the_next_prompt(monkeypatch):
    """What the reset is for: without it the sampler and the forward of whole texts differ."""
    monkeypatch.setattr(public, "_forget_positions", lambda model: None)
    with pytest.raises(AssertionError):
        test_models_that_see(glm4v)


def qwen3_5():
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    rope |= {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    text = {**TEXT, **DELTA, "model_type": "qwen3_5_text", "rope_parameters": rope}
    vision = {**VISION, "model_type": "qwen3_5_vision", "depth": 2, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 16, "spatial_merge_size": 2, "num_position_embeddings": 64}
    tokens = {"image_token_id": IMAGE, "video_token_id": 198}
    tokens |= {"vision_start_token_id": 197, "vision_end_token_id": 196}
    return AutoConfig.for_model("qwen3_5", text_config=text, vision_config=vision, **tokens)


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 does not know Qwen3.5")
def test_states_and_pictures_of_mixed_lengths_together(monkeypatch):
    """Qwen3.5: prompts with one picture, two and none in one batch, prefilled together and in parts."""
    model = model_of(qwen3_5(), AutoModelForImageTextToText)
    settings = ImageSettings(16, 2, 2, 32 * 32, 128 * 128, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    family = QwenFamily(settings, IMAGE)
    generator = torch.Generator().manual_seed(0)
    prompts = []
    for text, sizes in zip(texts((70, 9, 5, 6)), ([(64, 96)], [(32, 64), (64, 64)], [], [(96, 32)])):
        images = tuple(torch.randint(0, 256, (*s, 3), dtype=torch.uint8, generator=generator) for s in sizes)
        grid = torch.tensor([settings.grid(*s) for s in sizes], dtype=torch.int64).reshape(-1, 3)
        ids = text.ids_P.tolist()
        for size in sizes:
            ids += [IMAGE] * settings.num_tokens(*size) + [7]
        ids_P = torch.tensor(ids)
        positions = mrope_positions(ids_P, grid, IMAGE, settings.merge_size)
        prompts.append(Prompt(text.example, text.text, ids_P, images, grid, positions))
    assert runs_in_batches(model, family)
    monkeypatch.setattr(batched, "PREFILLED", 2 * max(len(p.ids_P) for p in prompts))
    check(model, family, prompts, lambda prompt: family.public_inputs(model, prompt, 0))


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 does not know Qwen3.5")
def test_fewer_prompts_run_together_where_states_take_memory(monkeypatch):
    model = model_of(AutoConfig.for_model("qwen3_next", **{**TEXT, **TEXTS["qwen3_next"][0]}))
    states, together = state_tokens(model.config), []
    assert states > 20
    real = batched.BatchedRows.__init__

    def counted(self, model, family, prompts, n, store):
        together.append(len(prompts))
        real(self, model, family, prompts, n, store)

    monkeypatch.setattr(batched.BatchedRows, "__init__", counted)
    processor = Processor(tiny_tokenizer_of(), "", TextFamily(), Path())
    row = 9 + 4 + states
    for limit, expected in ((3 * 2 * row, [3]), (3 * 2 * row - 1, [2, 1]), (2 * row, [1, 1, 1])):
        together.clear()
        options = GenerateOptions(limit)
        generate(model, processor, texts((9, 9, 9)), Sampling(n=2, max_tokens=4), options=options)
        assert together == expected


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 has no bias of positions in SDPA")
def test_a_bias_of_positions_reaches_decoded_tokens():
    query, key, value = noise(0, 3, 4, 1, 8), noise(1, 3, 2, 6, 8), noise(2, 3, 2, 6, 8)
    module = torch.nn.Module()
    module.num_key_value_groups = 2
    bias = noise(3, 3, 4, 1, 6)
    own, _ = sdpa_attention_forward(module, query, key, value, None, position_bias=bias)
    ours, _ = group_shared_attention(module, query, key, value, None, position_bias=bias)
    torch.testing.assert_close(ours, own)
    plain, _ = group_shared_attention(module, query, key, value, None)
    assert (ours - plain).abs().max() > 0.01
