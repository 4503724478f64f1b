"""Other families through the same forward, and models that cannot go through it."""

import json

import pytest
import torch
from plain_forward import assert_equals_one_at_a_time, prompts_of, rope_index, rows_with
from tiny_families import FAMILIES, save_tiny_family

from gmpo_vl.models import compat
from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.rollout.hf import generate
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example, Sampling


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            made[family] = save_tiny_family(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.mark.filterwarnings("ignore:prompts are not shared")
@pytest.mark.parametrize("way", ["shared", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_equal_transformers_own_forward(family, way, folders, all_float64):
    processor, model = load_processor(folders(family)), load_model(folders(family), torch.float64)
    for kind in ("mixed", "text") if processor.image else ("text",):
        rows = rows_with(
            prompts_of(kind, processor, make_examples("train", 2, seed=0)), [[7, 1, 4], [3, 9], [5, 5]]
        )
        model.train()  # 4.57 computes experts in another way in evaluation
        if compat.TRANSFORMERS_5:
            model.set_experts_implementation("eager")  # grouped matrix products know no float64
        assert_equals_one_at_a_time(model, processor, rows, way)


@pytest.mark.parametrize("family", FAMILIES)
def test_which_families_share_under_this_version(family, folders):
    with_own_attention = family in ("qwen2_moe", "qwen3_next") and not compat.TRANSFORMERS_5
    if with_own_attention:
        with pytest.warns(UserWarning, match="prompts are not shared"):
            model = load_model(folders(family))
    else:
        model = load_model(folders(family))
    assert (sharing_obstacle(model.config) is not None) == with_own_attention


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_positions_equal_the_models_rope_index(family, folders):
    processor, model = load_processor(folders(family)), load_model(folders(family))
    pictures = make_examples("train", 2, seed=0)
    example = Example("a", "<image>one <image> and two", "1", tuple(e.images[0] for e in pictures))
    prompt = encode_prompt(example, processor)
    theirs = rope_index(model, prompt.ids_P[None], prompt.image_grid_thw)
    assert torch.equal(prompt.position_ids_3P, theirs[:, 0])


def test_the_router_sees_every_token_once(folders):
    processor, model = load_processor(folders("qwen3_moe")), load_model(folders("qwen3_moe"))
    prompts = prompts_of("text", processor, [])
    seen = []
    language_model(model).layers[0].mlp.gate.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].reshape(-1, args[0].shape[-1]).shape[0])
    )
    packed = pack(rows_with(prompts, [[7, 1], [3, 9]]), TextFamily(), torch.device("cpu"))
    response_log_probs(model, packed, 1.0, ())
    assert seen == [sum(len(p.ids_P) for p in prompts) + 6 + 0 + 2 + 8]


@pytest.mark.parametrize("way", ["shared", "plain"])
def test_windows_are_honoured(way, text_folder, tmp_path, all_float64):
    folder = tmp_path / "sliding"
    folder.mkdir()
    for path in text_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    model, processor = load_model(folder, torch.float64), load_processor(folder)
    rows = rows_with(prompts_of("text", processor, []), [[7, 1], [3, 9]])
    assert_equals_one_at_a_time(model, processor, rows, way)
    unlike = load_model(text_folder, torch.float64)  # without windows
    packed = pack(rows, TextFamily(), torch.device("cpu"))
    gap = response_log_probs(model, packed, 1.0, ())[0] - response_log_probs(unlike, packed, 1.0, ())[0]
    assert gap.abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:prompts are not shared")
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_rollouts_of_any_number_equal_transformers_generate(family, folders):
    processor, model = load_processor(folders(family)), load_model(folders(family))
    plain = load_model(folders(family))
    plain.set_attn_implementation("sdpa")  # transformers' own, not this project's
    prompts = prompts_of("mixed" if processor.image else "text", processor, make_examples("train", 2, seed=0))
    groups = [
        generate(model, processor, prompts, Sampling(n=n, max_tokens=8, temperature=0.0)) for n in (1, 3, 8)
    ]
    for prompt, *answered in zip(prompts, *groups):
        inputs = {"input_ids": prompt.ids_P[None], "attention_mask": torch.ones_like(prompt.ids_P[None])}
        if prompt.images:
            inputs |= compat_inputs(model, prompt, processor.image)
        theirs = plain.generate(
            **inputs,
            max_new_tokens=8,
            do_sample=False,
            bad_words_ids=[[i] for i in banned_ids(model.config)] or None,
        )[0, len(prompt.ids_P) :]
        responses = [response for group in answered for response in group.responses]
        assert len(responses) == 1 + 3 + 8
        for response in responses:
            assert response.ids_T.tolist() == theirs.tolist()


def compat_inputs(model, prompt, image):
    inputs = {
        "pixel_values": torch.cat([make_patches(x, image) for x in prompt.images]),
        "image_grid_thw": prompt.image_grid_thw,
    }
    if compat.TRANSFORMERS_5:
        inputs["mm_token_type_ids"] = (prompt.ids_P[None] == model.config.image_token_id).int()
    return inputs
