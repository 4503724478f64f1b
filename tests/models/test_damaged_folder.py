"""A damaged file of a model's folder is told in a sentence that names it."""

import json
import shutil
from pathlib import Path

import pytest

from gmpo_vl.models.loading import adapter_base, load_model, model_config
from gmpo_vl.models.processing import load_processor

NOT_JSON = (b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100_000)


def load_all(folder: Path) -> None:
    load_processor(folder)
    model_config(folder)
    load_model(folder)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "preprocessor_config.json",
    ],
)
def test_a_damaged_file_is_named(folder, name):
    for content in NOT_JSON:
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged: not (a )?JSON.*download the model again"):
            load_all(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises((ValueError, OSError), match=rf"{name} is damaged: it is a folder"):
        load_all(folder)


@pytest.mark.parametrize("changed", [{"text_config": 5}, {"text_config": []}, {"dtype": "nix"}])
def test_values_that_transformers_stumbles_over_are_told_with_the_file(folder, changed):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=r"model: .* can make no configuration of config\.json: "):
        model_config(folder)


@pytest.mark.parametrize("content", ["{}", '{"added_tokens": 5}', '{"model": {}}'])
def test_a_tokenizer_of_something_else_is_told_with_its_files(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"model: .*tokenizer.*tokenizer\.json"):
        load_processor(folder)


def test_what_a_file_lacks_is_told(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text("{}")
    with pytest.raises(ValueError, match=r"chat_template\.json is damaged: no 'chat_template'"):
        load_processor(folder)
    del config["image_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json is damaged: no 'image_token_id'"):
        load_processor(folder)
    for content in ("{", "{}", "5"):
        (folder / "adapter_config.json").write_text(content)
        with pytest.raises(ValueError, match=r"adapter_config\.json is damaged"):
            adapter_base(folder)
