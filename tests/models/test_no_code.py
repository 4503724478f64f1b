"""Code that lies in a model's folder never runs, and nobody is asked whether it may."""

import builtins
import io
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gmpo_vl.models.compat import load_image_processor
from gmpo_vl.models.loading import load_model, model_config
from gmpo_vl.models.processing import load_processor
from gmpo_vl.sizing.parameters import model_size

HOSTILE = """
from pathlib import Path
Path({canary!r}).touch()
from transformers import PretrainedConfig
class Hostile(PretrainedConfig):
    model_type = "hostile"
"""
MAPPED = ["AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoProcessor"]
LOADERS = {
    "configuration": model_config,
    "size": model_size,
    "model": load_model,
    "tokenizer": load_processor,
    "image processor": load_image_processor,
}


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """What was asked; whoever reads finds `y` on stdin."""
    questions, ask = [], builtins.input
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr(builtins, "input", lambda *question: (questions.append(str(question)), ask())[1])
    return questions


@pytest.fixture
def hostile(tiny_folder, tmp_path):
    """A tiny model's folder with code, of a model type and classes that transformers has or has not."""

    def make(known: bool) -> Path:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
        (folder / "hostile.py").write_text(HOSTILE.format(canary=str(tmp_path / "ran")))
        changes = {
            "config.json": {"auto_map": dict.fromkeys(MAPPED, "hostile.Hostile")},
            "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["hostile.Hostile", "hostile.Hostile"]}},
            "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "hostile.Hostile"}},
        }
        if not known:
            changes["config.json"] |= {"model_type": "hostile", "architectures": ["Hostile"]}
            changes["tokenizer_config.json"]["tokenizer_class"] = "Hostile"
            changes["preprocessor_config.json"] |= {"image_processor_type": "Hostile"}
        for name, changed in changes.items():
            path = folder / name
            path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        return folder

    return make


@pytest.mark.parametrize("part", [part for part in LOADERS if part != "image processor"])
def test_what_needs_code_is_refused_in_a_sentence(part, hostile, asked, tmp_path):
    folder = hostile(known=False)
    with pytest.raises(ValueError, match="code from a model's folder is never run here"):
        LOADERS[part](folder)
    assert asked == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", LOADERS)
def test_a_model_that_transformers_knows_is_loaded_without_its_code(part, hostile, asked, tmp_path):
    assert LOADERS[part](hostile(known=True)) is not None
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_an_image_processor_of_an_unknown_kind_runs_no_code(hostile, asked, tmp_path):
    with suppress(ValueError):  # transformers 5 takes one of its own
        load_image_processor(hostile(known=False))
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_an_unknown_kind_of_model_is_told(tiny_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "of_tomorrow"}))
    with pytest.raises(ValueError, match=r"no class for its configuration.*or a newer transformers"):
        load_model(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"peft_type": "PROMPT_TUNING", "tokenizer_kwargs": {"trust_remote_code": True}},
        {"megatron_config": {"a": 1}, "megatron_core": "hostile"},
    ],
)
def test_an_adapter_that_names_code_is_refused(changed, hostile, tmp_path, monkeypatch):
    folder = hostile(known=True)
    monkeypatch.syspath_prepend(folder)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(folder)} | changed
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match="no LoRA adapter"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()
