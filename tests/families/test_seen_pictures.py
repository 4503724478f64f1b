"""What the page of `data show` says a model sees is what its own processor hands to it."""

import re

import numpy as np
import pytest
import torch
from families.questions import pictures_of, question
from families.tiny import each_family
from tiny_runs import BASE

from gmpo_vl.cli import main
from gmpo_vl.models.families.seen import seen_by_model
from gmpo_vl.models.processing import encode_prompt

# They hand on patches, which are no pictures.
PATCHES = ("gemma4", "glm4v", "glm4v_moe", "glm46v", "minicpmv4_6")


@each_family(common=["gemma3", "llava"])
def test_the_pictures_are_made_of_what_the_model_is_given(name, processor):
    example = question((100, 70))
    seen = seen_by_model(processor.family, encode_prompt(example, processor))
    own = processor.family.processor.image_processor
    whole, pictures = processor.family.processor, pictures_of(example)
    made = whole(text=[processor.family.placeholder], images=pictures, return_tensors="pt")
    values = made["pixel_values"]
    assert f"pixel_values {' x '.join(map(str, values.shape))}" in seen.shapes
    assert seen.processor == type(own).__name__
    if name in PATCHES:
        assert seen.pictures == ()
        return
    tiles = [tile for tile in values.flatten(0, -4) if tile.any()]
    assert len(seen.pictures) == len(tiles) > 0
    for picture, tile in zip(seen.pictures, tiles):
        # The processor scales and normalises a picture of the right size without moving a pixel.
        mean, std = (torch.tensor(x)[:, None, None] for x in (own.image_mean, own.image_std))
        again = (torch.from_numpy(np.array(picture)).permute(2, 0, 1) * own.rescale_factor - mean) / std
        torch.testing.assert_close(again.float(), tile.float(), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["llava"])
def test_without_pictures_nothing_is_seen(processor):
    assert seen_by_model(processor.family, encode_prompt(question(), processor)) is None


@pytest.mark.parametrize("name", ["llava"])
def test_the_page_shows_the_square_that_is_left(folder, overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(BASE)
    model = f"worker.actor.model.model_path={folder}"
    assert (
        main(["data", "show", str(tmp_path / "run.yaml"), *overrides, model, "data.max_prompt_length=512"])
        == 0
    )
    page = (tmp_path / "runs/show.html").read_text()
    assert "given to the processor" in page
    of_it = r"1 of 56 × 56 \(pixel_values 1 x 3 x 56 x 56\)"
    assert re.search(rf"seen, as CLIPImageProcessor\w* hands it on: {of_it}", page)
    assert "very pixels" not in page
