"""What the doctor says of a model: damaged, of another class, an adapter, out of reach, blind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from doctor_findings import of
from planted import planted, write_planted

from gmpo_vl.cli import main
from gmpo_vl.models.loading import load_model


def damaged(kind: str, model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    if kind == "cut off":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif kind == "missing":
        weights.unlink()
    elif kind == "another model's config":
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["num_hidden_layers"] = 5
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "index cut off":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a.weight": "model.saf')
    elif kind == "index of nothing":
        (folder / "model.safetensors.index.json").write_text('["a list"]')
    elif kind == "no shard":
        names = {f"w{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        weights.rename(folder / names["w1"])
    elif kind == "other shapes":
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["intermediate_size"] //= 2
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "small vocabulary":
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["vocab_size"] = 100
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "no problem":
        (folder / "chat_template.jinja").write_text("{{ messages[0].role }}")
    elif kind == "twice":
        template = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").write_text(template + "{{ messages[0].content[1].text }}")
    return folder


@pytest.mark.parametrize(
    ("kind", "level", "check", "said"),
    [
        ("cut off", "error", "weights", "cannot be read"),
        ("missing", "error", "weights", "model.safetensors is missing"),
        ("index cut off", "error", "weights", "model.safetensors.index.json cannot be read"),
        ("index of nothing", "error", "weights", "model.safetensors.index.json cannot be read"),
        ("other shapes", "error", "weights", "weights in other shapes than config.json gives a Qwen2_5_VL"),
        ("another model's config", "error", "weights", "its files lack 36 weights of a Qwen2_5_VL"),
        ("no shard", "error", "weights", "the file model-00002-of-00002.safetensors is missing"),
        ("small vocabulary", "error", "model", "no model can be built from its config.json"),
        ("no problem", "error", "template", "leaves out or changes the problem"),
        ("twice", "error", "template", "the problem stands 2 times"),
    ],
)
def test_a_damaged_model_folder_is_seen_before_it_is_loaded(
    kind, level, check, said, doctor, model, tmp_path, capsys
):
    code, findings = doctor(model=damaged(kind, model, tmp_path / "model"))
    found = of(findings, level)[check]
    assert said in found["what"]
    assert found["change"]
    assert code == (1 if level == "error" else code)
    if check == "weights":  # the plan, which reads headers too, ends where the run would
        assert main(["train", "--dry-run", str(tmp_path / "run.yaml")]) == 2
        assert said in capsys.readouterr().err


def test_weights_of_another_class_are_told_by_their_names_and_those_in_torch_s_format_are_not_looked_at(
    doctor, model, tmp_path
):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({f"other.{name}": value for name, value in weights.items()}, folder / "model.safetensors")
    code, findings = doctor(model=folder)
    assert code == 1
    assert f"its files lack {len(weights):,} weights" in of(findings, "error")["weights"]["what"]
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    code, findings = doctor(model=folder)
    assert code == 0
    assert "torch's own format" in of(findings, "note")["weights"]["what"]
    assert main(["train", "--dry-run", str(tmp_path / "run.yaml")]) == 0


def test_an_adapter_is_looked_at_with_the_model_that_it_was_trained_on(doctor, model, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = shutil.copytree(model, tmp_path / "base")
    tuned = get_peft_model(load_model(base), LoraConfig(target_modules=["q_proj"]))
    folder = shutil.copytree(model, tmp_path / "adapter", ignore=shutil.ignore_patterns("*.safetensors"))
    tuned.save_pretrained(folder)
    code, findings = doctor(model=folder)
    assert code == 0
    assert "parameters in 1 files" in of(findings, "ok")["weights"]["what"]
    base.rename(tmp_path / "moved")
    code, findings = doctor(model=folder)
    assert code == 1
    said = of(findings, "error")["weights"]["what"]
    assert f"{folder} is a LoRA adapter to {base}, and {base} does not exist: put that model there" in said


def test_without_a_model_everything_else_is_checked(doctor, tmp_path, model):
    code, findings = doctor(model=tmp_path / "gone")
    assert code == 1
    (error,) = (f for f in findings if f["level"] == "error")
    assert "gone does not exist" in error["what"]
    assert {"data", "batches", "disk", "reward"} <= set(of(findings, "ok")) | {"disk"}
    assert "tokens were not counted" in of(findings, "note")["data"]["what"]
    train = write_planted(planted(), "jsonl", tmp_path)
    code, findings = doctor(f"data.train_files={train}", "--rehearse", model=tmp_path / "gone")
    reasons = {f["what"].split(":")[0] for f in findings if f["check"] == "data" and f["level"] == "error"}
    assert reasons >= {"image_unreadable", "image_tags", "empty_answer", "answer_form", "problem_length"}
    assert "not tried" in of(findings, "note")["rehearsal"]["what"]


def test_a_model_on_a_hub_out_of_reach_is_one_sentence_for_doctor_and_run(
    doctor, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # the discard port
    code, findings = doctor(model="nobody/model")
    assert code == 1
    error = of(findings, "error")["model"]
    assert "no folder 'nobody/model' here, and the hub cannot be reached" in error["what"]
    assert {"data", "batches", "reward"} <= set(of(findings, "ok"))
    capsys.readouterr()
    assert main(["train", str(tmp_path / "run.yaml")]) == 2
    assert capsys.readouterr().err == f"gmpo-vl: {error['what']}\n"


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        '["a list"]',
        '{"model_type": "never_heard_of"}',
        '{"model_type": "qwen2_5_vl", "text_config": 5}',
    ],
)
def test_a_config_that_is_none_is_told_and_the_rest_is_checked(text, doctor, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(text)
    code, findings = doctor(model=tmp_path / "model")
    assert code == 1
    error = of(findings, "error")["model"]
    assert error["what"]
    assert error["where"] == str(tmp_path / "model")
    assert {"data", "batches", "reward"} <= set(of(findings, "ok"))


def test_a_model_that_ignores_its_pictures_is_found_out(doctor, model, tmp_path):
    blind = load_model(model)
    with torch.no_grad():
        blind.model.visual.merger.mlp[2].weight.zero_()  # whatever the picture, the same features
        blind.model.visual.merger.mlp[2].bias.zero_()
    shutil.copytree(model, tmp_path / "blind")
    blind.save_pretrained(tmp_path / "blind")
    code, findings = doctor(model=tmp_path / "blind")
    assert code == 1
    assert "the model does not look" in of(findings, "error")["sight"]["what"]
