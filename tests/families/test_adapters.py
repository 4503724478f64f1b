"""A LoRA checkpoint of a model with a processor of its own: what it names, and as a whole model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from families.questions import question
from families.tiny import each_family
from tiny_runs import BASE, settings_of_run
from transformers import AutoModelForImageTextToText

from gmpo_vl.cli import main
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt, load_processor

pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")
LORA = ["worker.actor.model.lora.rank=2", "worker.actor.optim.lr=0.05", "trainer.max_steps=1"]
LORA += ["trainer.val_freq=-1", "trainer.val_before_train=false", "data.max_prompt_length=512"]


def trained(where: Path, diagrams: Path, model: Path | str) -> Path:
    """The folder of a checkpoint of one step with LoRA."""
    where.mkdir()
    (where / "run.yaml").write_text(BASE)
    settings = settings_of_run(where.absolute(), diagrams, Path(model))
    assert main(["train", str(where / "run.yaml"), *settings, *LORA]) == 0
    return (where / "run/checkpoints/step_000001").absolute()


def logits(model, folder: Path) -> torch.Tensor:
    processor = load_processor(folder)
    prompt = encode_prompt(question((100, 70)), processor)
    ids_1P = prompt.ids_P[None]
    inputs = processor.family.public_inputs(model, prompt, 0)
    with torch.no_grad():
        return model.eval()(input_ids=ids_1P, attention_mask=torch.ones_like(ids_1P), **inputs).logits


@each_family(common=["llava"])
def test_it_is_exported_as_a_whole_model_that_transformers_reads(folder, diagrams, tmp_path, capsys):
    checkpoint = trained(tmp_path / "a", diagrams, folder)
    adapter, whole = checkpoint / "huggingface", tmp_path / "whole"
    assert f"`gmpo-vl export {checkpoint} FOLDER` merges it into its model" in capsys.readouterr().out
    assert main(["export", str(checkpoint), str(whole)]) == 0
    ours, start = logits(load_model(adapter), adapter), logits(load_model(folder), folder)
    assert (ours - start).abs().max() > 0.01
    assert torch.equal(logits(load_model(whole), whole), ours)
    torch.testing.assert_close(logits(AutoModelForImageTextToText.from_pretrained(whole), whole), ours)
    assert not (whole / "adapter_config.json").exists()
    assert main(["export", str(checkpoint), str(whole)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["llava"])
def test_its_model_is_found_from_any_folder(folder, diagrams, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    adapter = trained(Path("a"), diagrams, "model") / "huggingface"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    load_model(adapter)
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["llava"])
def test_an_adapter_on_an_adapter_keeps_the_first(folder, diagrams, tmp_path):
    first = trained(tmp_path / "a", diagrams, folder) / "huggingface"
    second = trained(tmp_path / "b", diagrams, first) / "huggingface"
    config = json.loads((second / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(first)
    zero = shutil.copytree(second, tmp_path / "zero")
    from safetensors.torch import load_file, save_file

    weights = load_file(zero / "adapter_model.safetensors")
    save_file({k: torch.zeros_like(v) for k, v in weights.items()}, zero / "adapter_model.safetensors")
    torch.testing.assert_close(logits(load_model(zero), zero), logits(load_model(first), first))


@pytest.mark.parametrize("name", ["llava"])
def test_an_adapter_without_its_weights_is_named(folder, diagrams, tmp_path):
    adapter = shutil.copytree(trained(tmp_path / "a", diagrams, folder) / "huggingface", tmp_path / "cut")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"adapter_config\.json is there, but no adapter_model\.safetensors"):
        load_model(adapter)
