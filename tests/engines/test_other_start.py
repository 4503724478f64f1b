"""A run that goes on is told another start: what its checkpoint cannot follow is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_families import save_tiny_family

from gmpo_vl.config import load_config
from gmpo_vl.engines.local.checkpoint import load_optimizer, save_optimizer
from gmpo_vl.engines.local.engine import train
from gmpo_vl.engines.policy import build_optimizer
from gmpo_vl.engines.start import _said
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.runs import Run

SETTINGS = ["trainer.val_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=1"]
STEPS = 1
MODEL = "worker.actor.model.model_path"


def files_of(folder: Path) -> dict[str, bytes]:
    """But for the caches of hashes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("_hashes.json"))
    return {str(path): path.read_bytes() for path in files if path.name != "lock"}


def test_another_model_is_refused_before_anything_is_written(run, go_on, tiny_folder, tmp_path):
    other, before = save_tiny(tmp_path / "other", seed=1), files_of(run.folder)
    code, said = go_on(f"{MODEL}={other}")
    assert code == 2
    assert f"of a run that began with the weights of {tiny_folder}, and {other} holds others" in said
    assert f"another trainer.experiment_name (or trainer.save_checkpoint_path), or write {MODEL}=" in said
    assert files_of(run.folder) == before
    assert go_on(f"{MODEL}={other}", f"trainer.save_checkpoint_path={tmp_path / 'new'}")[0] == 0
    assert [line["step"] for line in Run(tmp_path / "new").read_metrics()] == [1, 2]


def test_another_kind_of_model_is_refused_before_its_rows_are_read(run, go_on, tmp_path):
    text = save_tiny_family(tmp_path / "text", "qwen3")
    code, said = go_on(f"{MODEL}={text}")
    assert code == 2
    assert f"{run.checkpoint(1)} holds a 'qwen2_5_vl', and {MODEL} {text} is a 'qwen3'" in said
    assert "rows" not in said


def test_the_same_model_elsewhere_goes_on(run, go_on, tiny_folder, tmp_path):
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    code, said = go_on(f"{MODEL}={moved}")
    assert code == 0
    assert f"going on with other settings than before: {MODEL}, " in said
    assert [line["step"] for line in run.read_metrics()] == [1, 2]


def test_weights_that_changed_where_they_lay_are_refused(config_file, overrides, tiny_folder, tmp_path):
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    settings = [*overrides, *SETTINGS, f"{MODEL}={model}"]
    train(load_config(config_file, [*settings, "trainer.max_steps=1"]))
    shutil.copy(save_tiny(tmp_path / "other", seed=1) / "model.safetensors", model)
    with pytest.raises(ValueError, match=f"the weights of {model}, and they changed since"):
        train(load_config(config_file, [*settings, "trainer.max_steps=2"]))


def test_an_adapter_goes_on_as_it_was_trained_on_the_model_it_was_trained_on(make_config, tmp_path):
    lora = ["worker.actor.model.lora.rank=2", "worker.actor.model.lora.alpha=4", *SETTINGS]
    model = save_tiny(tmp_path / "model", seed=2)
    train(make_config(*lora, f"{MODEL}={model}", "trainer.max_steps=1"))
    with pytest.raises(
        ValueError, match=r"trained with worker\.actor\.model\.lora\.alpha 4, and it is 8 now"
    ):
        train(make_config(*lora, f"{MODEL}={model}", "worker.actor.model.lora.alpha=8"))
    other = save_tiny(tmp_path / "other", seed=3)
    begun = f"trainer.load_checkpoint_path={tmp_path / 'run/checkpoints/step_000001'}"
    with pytest.raises(ValueError, match=f"the weights of {model}, and {other} holds others"):
        train(make_config(*lora, f"{MODEL}={other}", begun, f"trainer.save_checkpoint_path={tmp_path / 'b'}"))
    moved = model.rename(tmp_path / "moved")
    run = train(make_config(*lora, f"{MODEL}={moved}", "trainer.max_steps=2"))
    assert [line["step"] for line in run.read_metrics()] == [1, 2]


@pytest.mark.parametrize("lora", [[], ["worker.actor.model.lora.rank=2"]], ids=["full", "lora"])
def test_what_else_changed_about_the_model_is_refused_or_told(make_config, tmp_path, capsys, lora):
    model = save_tiny(tmp_path / "model")
    settings = [*SETTINGS, *lora, f"{MODEL}={model}"]
    train(make_config(*settings, "trainer.max_steps=1"))
    path, written = model / "config.json", (model / "config.json").read_text()
    values = json.loads(written)
    path.write_text(json.dumps({**values, "transformers_version": "0", "dtype": "float16"}))
    capsys.readouterr()
    train(make_config(*settings, "trainer.max_steps=2"))
    assert "changed: from" not in capsys.readouterr().out

    values["text_config"]["rms_norm_eps"] = 0.5
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"config\.json of {model} \(text_config\.rms_norm_eps\)"):
        train(make_config(*settings, "trainer.max_steps=3"))
    path.write_text(written)
    key = "worker.actor.model.override_config"
    with pytest.raises(ValueError, match=f"{key} {{}}, and it is {{.*}} now: .* Write {key}={{}}"):
        train(make_config(*settings, f"{key}={{tie_word_embeddings: false}}", "trainer.max_steps=3"))

    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    (model / "preprocessor_config.json").write_text((model / "preprocessor_config.json").read_text() + "\n")
    train(make_config(*settings, "trainer.max_steps=3"))
    out = capsys.readouterr().out
    assert f"chat_template.jinja, preprocessor_config.json of {model} changed: from here on prompts" in out
    own = tmp_path / "own.jinja"
    own.write_text(template.read_text())
    train(make_config(*settings, f"data.override_chat_template={own}", "trainer.max_steps=4"))
    assert f"written, data.override_chat_template of {model} changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (1, "1"), (False, "false"), (None, "null"), ("lion", "lion"), ({}, "{}")]
)
def test_a_setting_is_named_as_it_is_written(value, said):
    assert _said(value) == said


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("name", ["freeze_vision_tower=true", "lora.rank=2"])
def test_other_weights_to_train_are_refused(go_on, name):
    code, said = go_on(f"worker.actor.model.{name}")
    assert code == 2
    key, _, now = name.partition("=")
    assert f"and it is {now} now: its weights and its optimizer's state go on only as they were" in said
    assert f"Write worker.actor.model.{key}=" in said


@pytest.mark.usefixtures("run")
def test_what_means_nothing_without_an_adapter_may_change(go_on):
    assert go_on("worker.actor.model.lora.alpha=8")[0] == 0


def test_the_optimizer_takes_this_run_s_settings_and_the_state_of_before(make_config, tmp_path):
    layer = torch.nn.Linear(2, 2)
    before = build_optimizer(layer.parameters(), make_config().worker.actor.optim)
    layer(torch.ones(1, 2)).sum().backward()
    before.step()
    layer.config = None
    save_optimizer(layer, before, tmp_path / "trainer/optimizer.pt")
    asked = make_config("worker.actor.optim.weight_decay=0.5", "worker.actor.optim.betas=[0.5, 0.6]")
    after = build_optimizer(layer.parameters(), asked.worker.actor.optim)
    load_optimizer(tmp_path / "trainer/optimizer.pt", layer, after)
    (group,) = after.param_groups
    assert (group["weight_decay"], group["betas"]) == (0.5, (0.5, 0.6))
    assert after.state[layer.weight]["exp_avg"].equal(before.state[layer.weight]["exp_avg"])


def test_more_prompts_of_the_start_than_were_kept_are_refused(make_config):
    few = [*SETTINGS, "trainer.kl_to_start_freq=1", "trainer.kl_to_start_prompts=2"]
    train(make_config(*few, "trainer.max_steps=1"))
    with pytest.raises(
        ValueError, match=r"the starting answers to 2 prompts, and trainer\.kl_to_start_prompts"
    ):
        train(make_config(*few, "trainer.kl_to_start_prompts=3"))
