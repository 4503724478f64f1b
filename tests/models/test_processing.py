"""Prompts are what transformers' own processor and model would make of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from plain_forward import rope_index
from tiny_families import save_tiny_family

from gmpo_vl.models import compat
from gmpo_vl.models.families.qwen import make_patches, mrope_positions, resize_image
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt, load_processor, prompt_length
from gmpo_vl.types import Example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from gmpo_vl.models.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(112, 112), (57, 200), (301, 85)])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])  # patches of 14 and of 16 pixels, other means
def test_patches_equal_the_image_processors_to_the_bit(family, size, folder, tmp_path):
    folder = folder if family == "qwen2_5_vl" else save_tiny_family(tmp_path, family)
    settings = load_processor(folder).image
    image = picture(*size)
    theirs = compat.load_image_processor(folder)(images=[image], return_tensors="pt")
    resized = resize_image(image, settings)
    assert settings.grid(*resized.shape[:2]) == tuple(theirs["image_grid_thw"][0].tolist())
    assert torch.equal(make_patches(resized, settings), theirs["pixel_values"])


def test_positions_equal_the_models_rope_index(folder):
    processor, model = load_processor(folder), load_model(folder)
    example = Example("a", "<image>one <image> and two", "1", (picture(112, 56), picture(56, 140)))
    prompt = encode_prompt(example, processor)
    theirs = rope_index(model, prompt.ids_P[None], prompt.image_grid_thw)
    assert torch.equal(prompt.position_ids_3P, theirs[:, 0])


def test_text_only_positions_count_from_zero():
    assert (
        mrope_positions(torch.arange(5), torch.zeros((0, 3), dtype=torch.int64), 7, 2).tolist()
        == [[0, 1, 2, 3, 4]] * 3
    )


def test_every_picture_becomes_as_many_tokens_as_it_has_merged_patches(folder):
    processor = load_processor(folder)
    prompt = encode_prompt(
        Example("a", "<image>see <image>", "1", (picture(112, 56), picture(56, 56))), processor
    )
    assert (prompt.ids_P == processor.image_token_id).sum() == (112 // 28) * (56 // 28) + (56 // 28) ** 2
    assert [tuple(image.shape) for image in prompt.images] == [(56, 112, 3), (56, 56, 3)]


def test_a_chat_template_with_an_image_token_of_its_own_is_refused_by_name(folder):
    processor = load_processor(folder)
    doubled = replace(processor, chat_template=processor.chat_template + "<|image_pad|>")
    with pytest.raises(ValueError, match="row-7: 2 image tokens for 1 pictures"):
        encode_prompt(Example("row-7", "<image>how large?", "1", (picture(56, 56),)), doubled)


@pytest.mark.parametrize("size", [(500, 1), (1, 500)])
def test_qwen_s_models_refuse_a_very_long_picture_in_both_ways(size, folder):
    processor = load_processor(folder)
    example = Example("a", "<image>x?", "1", (Image.new("RGB", size),))
    for look in (encode_prompt, prompt_length):
        with pytest.raises(ValueError, match=r"more than 200 times the other, which Qwen's models refuse"):
            look(example, processor)
    allowed = Example("a", "<image>x?", "1", (Image.new("RGB", (4000, 20)),))  # exactly 200 times
    assert len(encode_prompt(allowed, processor).ids_P) == prompt_length(allowed, processor)
