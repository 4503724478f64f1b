"""A prompt is what the family's own processor makes of it."""

from dataclasses import replace

import pytest
import torch
from families.questions import QUESTIONS, noise, pictures_of, png, question
from families.tiny import KNOWN, USABLE, each_family

from gmpo_vl.models.families import accepted
from gmpo_vl.models.processing import (
    encode_prompt,
    load_processor,
    picture_length,
    prompt_length,
    prompt_text,
)

SIZES = [(56, 56), (100, 70), (60, 120), (300, 40), (33, 400), (500, 500), (57, 55)]


def by_transformers(processor, example):
    """All that transformers' processor makes of an example, as its `apply_chat_template` asks it."""
    whole, pictures = processor.family.processor, pictures_of(example)
    parts = [
        {"type": "image"} if piece is None else {"type": "text", "text": piece}
        for i, text in enumerate(example.problem.split("<image>"))
        for piece in ([None] if i else []) + ([text] if text else [])
    ]
    messages = [{"role": "user", "content": parts}]
    text = whole.apply_chat_template(
        messages, chat_template=processor.chat_template, add_generation_prompt=True
    )
    bos = whole.tokenizer.bos_token
    settings = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
    shown = {"images": pictures} if pictures else {}
    return whole(text=[text], return_tensors="pt", **shown, **settings)


@each_family()
def test_prompts_and_inputs_are_the_processors(processor, model):
    for example in QUESTIONS:
        prompt, whole = encode_prompt(example, processor), by_transformers(processor, example)
        assert prompt.ids_P.tolist() == whole["input_ids"][0].tolist()
        inputs = processor.family.public_inputs(model, prompt, 0)
        expected = accepted(model, dict(whole))
        del expected["input_ids"], expected["attention_mask"]
        assert inputs.keys() == expected.keys()
        assert all(torch.equal(inputs[name], expected[name]) for name in inputs)
        assert example.problem.replace("<image>", "").strip() in prompt.text


@each_family()
def test_inputs_of_each_token_are_0_for_a_response(processor, model):
    prompt = encode_prompt(QUESTIONS[1], processor)
    alone = processor.family.public_inputs(model, prompt, 0)
    longer = processor.family.public_inputs(model, prompt, 5)
    for name, value_P in prompt.per_token.items():
        assert len(value_P) == len(prompt.ids_P)
        if name in alone:
            assert longer[name][0].tolist() == [*alone[name][0].tolist(), 0, 0, 0, 0, 0]


@each_family()
def test_lengths_come_from_sizes_alone(processor):
    for n in (0, 1, 2, 3):
        for start in range(len(SIZES)):
            sizes = [SIZES[(start + i) % len(SIZES)] for i in range(n)]
            example = question(*sizes, text="\n\n\nWhat is this?")
            prompt = encode_prompt(example, processor)
            assert prompt_length(example, processor) == len(prompt.ids_P), sizes
            assert picture_length(example, processor) == int((prompt.ids_P == processor.image_token_id).sum())


@each_family()
def test_no_picture_is_decoded_for_a_length(processor):
    body = png(noise(100, 70))
    cut = replace(question(), problem="<image>What?", images=(body[: len(body) // 2],))
    whole = replace(cut, images=(body,))
    assert prompt_length(cut, processor) == len(encode_prompt(whole, processor).ids_P)


@each_family()
def test_limits_of_pixels_come_first(processor):
    example = question((400, 300))
    limits = {"min_pixels": None, "max_pixels": 5000}
    prompt = encode_prompt(example, processor, **limits)
    assert prompt.images[0].shape[0] * prompt.images[0].shape[1] <= 5000
    assert len(prompt.ids_P) == prompt_length(example, processor, **limits)


def tokens_of(processor):
    """Its control tokens but the tag of pictures in data."""
    return [text for text in processor.control.texts if "<image>" not in text]


@each_family()
def test_control_tokens_of_a_problem_are_plain_text(processor):
    tokens = tokens_of(processor)
    ids = processor.tokenizer.convert_tokens_to_ids(tokens)
    for sizes in ([], [(100, 70)]):
        plain = question(*sizes, text="Is this x?")
        spelt = question(*sizes, text=f"Is this {''.join(tokens)}?")
        counts = [
            [encode_prompt(example, processor).ids_P.tolist().count(i) for i in ids]
            for example in (plain, spelt)
        ]
        assert counts[0] == counts[1]
        assert "".join(tokens) in prompt_text(spelt, processor)
        assert prompt_length(spelt, processor) == len(encode_prompt(spelt, processor).ids_P)


@each_family()
def test_a_template_that_writes_another_number_of_pictures_is_named(processor):
    for template in ("{{ messages[0].content }}", "PP{{ messages[0].content }}"):
        text = template.replace("P", processor.family.placeholder)
        with pytest.raises(ValueError, match=r"q: .* image tokens for 1 pictures; does the chat template"):
            encode_prompt(question((100, 70)), replace(processor, chat_template=text))


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in USABLE])
def test_a_processor_without_its_package_names_it(folder):
    with pytest.raises(ValueError, match=r"its processor needs a package that is not.*[Tt]orchvision"):
        load_processor(folder)
