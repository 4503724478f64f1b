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
from gmpo_vl.models.processing import encode_prompt, load_processor
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
