"""Doctor, plan and data check on models of other kinds: their figures are right, or said not to be known."""

import json
import shutil

import pytest
from families.tiny import each_family
from tiny_families import save_tiny_family

from gmpo_vl.cli import main
from gmpo_vl.models.loading import load_model

LONG = "data.max_prompt_length=512"
NOT_COUNTED = "pictures are not counted: the widths of the ViT of a"


def said(findings: list[dict], check: str) -> str:
    return "\n".join(f["what"] for f in findings if f["check"] == check)


def looked_at(doctor, folder, *more: str) -> list[dict]:
    """The findings, of which none is an error, and all figures that the doctor knows of any model."""
    code, findings = doctor(LONG, *more, model=folder)
    assert code == 0
    assert [f for f in findings if f["level"] == "error"] == []
    checks = {f["check"] for f in findings if f["level"] == "ok"}
    assert {"weights", "tokens", "template", "data", "batches", "memory", "disk", "reward", "sight"} <= checks
    parameters = sum(p.numel() for p in load_model(folder).parameters())
    assert f"{parameters:,} parameters, {parameters:,} of them trained" in said(findings, "memory")
    return findings


def checked(folder, data, tmp_path) -> dict:
    """Figures of `data check` about the lengths of the train rows, after a plan that ends well."""
    config = str(tmp_path / "run.yaml")
    model = f"worker.actor.model.model_path={folder}"
    assert main(["train", "--dry-run", config, LONG, model]) == 0
    assert main(["data", "check", config, LONG, model, "--out", str(tmp_path / "check")]) == 0
    return json.loads((tmp_path / "check/check.json").read_text())["splits"]["train"]["lengths"]


@each_family()
@pytest.mark.filterwarnings("ignore:prompts are not shared")
def test_of_another_family_everything_but_its_pictures_is_known(name, doctor, data, folder_of, tmp_path):
    folder = folder_of(name)
    findings = looked_at(doctor, folder)
    assert NOT_COUNTED in said(findings, "memory")
    assert "0 KiB  pictures        update    not counted" in said(findings, "memory")
    assert "patches" not in said(findings, "memory")
    lengths = checked(folder, data, tmp_path)
    assert lengths["mean"] > 0
    assert 0 < lengths["image_token_share"] < 1
    assert "vision_share" not in lengths, "not known"


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_moe"])
def test_of_qwen3_5_everything_is_known(family, doctor, data, tmp_path):
    folder = save_tiny_family(tmp_path / "model", family)
    findings = looked_at(doctor, folder)
    assert NOT_COUNTED not in said(findings, "memory")
    assert "each prompt is computed once per group" in said(findings, "model")
    assert "each picture and prompt once per group" in said(findings, "sharing")
    assert 0 < checked(folder, data, tmp_path)["vision_share"] < 1


def test_a_text_model_with_other_layers_is_looked_at_without_its_memory(doctor, tmp_path):
    from gmpo_vl.models.tiny import random_model, save_folder, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    config = {"model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": 32}
    config |= {"vocab_size": tokenizer.get_vocab_size(), "num_hidden_layers": 2, "state_size": 4}
    folder = save_folder(tmp_path / "model", random_model(config, 0.02, 0), config, tokenizer)
    _, findings = doctor("data.max_prompt_length=512", model=folder)
    assert "memory is not estimated: 'mamba' does not say its widths" in said(findings, "memory")
    assert [f for f in findings if f["check"] == "memory" and f["level"] != "note"] == []


@pytest.mark.filterwarnings("ignore:prompts are not shared")
def test_more_image_tokens_than_features_is_an_error_of_the_files(doctor, folder_of, tmp_path):
    folder = shutil.copytree(folder_of("internvl"), tmp_path / "model")
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "image_seq_length": settings["image_seq_length"] + 5}))
    code, findings = doctor(LONG, model=folder)
    assert code == 1
    (error,) = (f for f in findings if f["level"] == "error")
    assert error["check"] == "sight"
    assert "do not match" in error["what"]
    assert "config.json, preprocessor_config.json, processor_config.json" in error["change"]
