"""What of a family's folder is read, and what stands in its way, in a sentence."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from families.questions import question
from families.tiny import each_family

from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.processing import encode_prompt, load_processor, prompt_length
from gmpo_vl.storage.files import write_json

pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@each_family()
def test_every_token_for_pictures_videos_and_sound_in_the_config_is_banned(model, processor, folder):
    config = json.loads((folder / "config.json").read_text())
    others = ("pad_token_id", "_pad_token_id", "eos_token_id", "bos_token_id")
    named = {value for name, value in config.items() if "_token_i" in name and name not in others}
    assert named
    assert set(banned_ids(model.config)) == named
    assert processor.image_token_id in named


@each_family()
@pytest.mark.skipif(not TRANSFORMERS_5, reason="only 5.x reads and writes such folders")
def test_a_folder_with_all_settings_in_one_file_is_read(copy, processor):
    """As 5.x saves a processor."""
    whole = json.loads((copy / "processor_config.json").read_text())
    whole["image_processor"] = json.loads((copy / "preprocessor_config.json").read_text())
    write_json(copy / "processor_config.json", whole)
    (copy / "preprocessor_config.json").unlink()
    example = question((100, 70))
    prompts = [encode_prompt(example, one) for one in (processor, load_processor(copy))]
    assert torch.equal(prompts[0].ids_P, prompts[1].ids_P)


@pytest.mark.parametrize("name", ["llava"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("NoSuchProcessor", r"has no processor NoSuchProcessor for models of the kind 'llava'"),
        (
            "InstructBlipProcessor",
            r"its InstructBlipProcessor needs qformer_tokenizer, which is not",
        ),
    ],
)
def test_another_kind_of_processor_is_named(kind, said, copy):
    for file in ("processor_config.json", "preprocessor_config.json"):
        write_json(copy / file, {**json.loads((copy / file).read_text()), "processor_class": kind})
    with pytest.raises(ValueError, match=said):
        load_processor(copy)


@each_family()
def test_a_config_whose_picture_token_the_processor_does_not_write_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    (key,) = {"image_token_id", "image_token_index"} & set(config)
    for other, written in ((config[key] - 1, "mostly|none of it"), (5, "mostly")):
        write_json(copy / "config.json", {**config, key: other})
        with pytest.raises(ValueError, match=rf"config\.json says that token {other} .* writes ({written})"):
            load_processor(copy)


@pytest.mark.parametrize("name", ["gemma3"])
def test_another_model_s_tokenizer_and_processor_are_named(copy, folder_of):
    for file in folder_of("llava").iterdir():
        if file.name not in ("config.json", "model.safetensors", "generation_config.json"):
            shutil.copy(file, copy / file.name)
    with pytest.raises(ValueError, match="the files are of different models"):
        load_processor(copy)


@pytest.mark.parametrize("name", ["llava"])
def test_an_input_that_the_forward_does_not_name_is_told(processor, model):
    prompt = encode_prompt(question((100, 70)), processor)
    more = replace(prompt, per_token={"no_such_input": torch.ones_like(prompt.ids_P)})
    with pytest.warns(UserWarning, match="no_such_input, which the forward of Llava.* does not name"):
        taken = processor.family.public_inputs(model, more, 0)
    assert set(taken) == {"pixel_values"}


@pytest.mark.parametrize("name", ["llava"])
@pytest.mark.parametrize("content", ["string", "list"])
def test_a_template_that_leaves_the_question_out_is_named(content, processor):
    """One that knows content of one form only, or none."""
    form = "{{ m.content }}" if content == "string" else "{% for p in m.content %}{{ p.kind }}{% endfor %}"
    template = "{% for m in messages %}" + form + "{% endfor %}"
    said = "q: the chat template leaves out or changes the problem's text"
    with pytest.raises(ValueError, match=said):
        encode_prompt(question(text="Is it\nso?"), replace(processor, chat_template=template))


@pytest.mark.parametrize("name", ["llava"])
def test_what_its_processor_refuses_is_told_with_the_row(processor):
    broken = replace(processor.family, processor=_Refusing())
    with pytest.raises(
        ValueError, match=r"q: the model's _Refusing cannot read it: TypeError: no such picture"
    ):
        encode_prompt(question(), replace(processor, family=broken))


class _Refusing:
    tokenizer = None

    def __call__(self, **_):
        raise TypeError("no such picture")


# --- very long pictures: the model's own processor decides ---
@each_family(common=["llava", "gemma3"])
@pytest.mark.parametrize("size", [(1, 500), (500, 1)])
def test_a_long_picture_is_the_processor_s_to_refuse(name, size, processor):
    example, said = question(size), ""
    try:
        found = len(encode_prompt(example, processor).ids_P)
    except ValueError as error:
        said = str(error)
    if said:  # those of transformers 4 take a height of 1 for one colour
        assert name.startswith("glm4") or not TRANSFORMERS_5
        assert "cannot read it: ValueError: " in said
    else:
        assert not name.startswith("glm4")
        assert found == prompt_length(example, processor)


@pytest.mark.parametrize("name", ["llava"])
def test_a_picture_that_its_processor_would_make_gigantic_is_refused(processor):
    with pytest.raises(ValueError, match=r"scales the short side of a picture of 1 x 900000 pixels"):
        encode_prompt(question((1, 900_000)), processor)
