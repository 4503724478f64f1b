"""A frozen ViT looks at each picture once, in calls of bounded size, and what is kept is what it sees."""

from dataclasses import replace

import pytest
import torch
from plain_forward import CPU

from gmpo_vl.models import features
from gmpo_vl.models.families.qwen import prompt_features
from gmpo_vl.models.features import frozen_features
from gmpo_vl.models.forward import answer_packed
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example


@pytest.fixture
def frozen(tiny_folder):
    """(model, processor, what its calls were asked for: a number of pictures each)"""
    model, calls = load_model(tiny_folder).eval(), []
    model.model.visual.requires_grad_(False)
    answer_packed(model)
    model.register_forward_pre_hook(
        lambda _, args: calls.append([len(prompt.images) for prompt in args[0].prompts])
    )
    return model, load_processor(tiny_folder), calls


def prompts_with_pictures(processor):
    examples = list(make_examples("train", 3, seed=0))
    same = replace(examples[0], id="another question", problem="<image>What else?")
    several = Example("two", "<image><image>Which?", "1", (examples[0].images[0], examples[1].images[0]))
    turned = replace(several, id="turned", images=several.images[::-1])
    text = Example("text", "How many?", "3")
    return [encode_prompt(e, processor) for e in (*examples, same, several, turned, text)]


def test_each_picture_is_looked_at_once_and_kept_as_seen(frozen):
    model, processor, calls = frozen
    prompts = prompts_with_pictures(processor)
    store = frozen_features(model, processor.image)
    assert store is not None
    store.learn(prompts)
    assert calls == [[1, 1, 1]]  # the others show these again
    store.learn(prompts[::-1])
    assert len(calls) == 1
    with torch.no_grad():
        alone = [prompt_features(model, [p], processor.image)[0] for p in prompts]
    *kept, of_text = store.of(prompts, CPU)
    for known, seen in zip(kept, alone):
        torch.testing.assert_close(known, seen, rtol=0, atol=1e-5)
    assert of_text.shape[1] == 0
    store.forget()
    store.learn(prompts[:1])
    assert calls[1:] == [[1]]


def test_calls_hold_a_bounded_number_of_patches_and_go_along_with_other_ranks(frozen, monkeypatch):
    model, processor, calls = frozen
    prompts = prompts_with_pictures(processor)[:3]
    patches = [int(p.image_grid_thw.prod()) for p in prompts]
    monkeypatch.setattr(features, "PATCHES", patches[0] + patches[1])
    store = frozen_features(model, processor.image)
    store.learn(prompts, on_all_ranks=lambda own: own + 2)
    assert calls == [[1, 1], [1], [], []]
    assert [f.shape[1] for f in store.of(prompts, CPU)] == [
        n // processor.image.merge_size**2 for n in patches
    ]


def test_a_tower_that_trains_keeps_nothing(frozen):
    model, processor, _ = frozen
    model.model.visual.blocks[0].requires_grad_(True)
    assert frozen_features(model, processor.image) is None
