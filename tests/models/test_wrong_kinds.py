"""Models that cannot answer here are refused in a sentence, before or while they are loaded."""

import json

import pytest
import transformers
from tiny_runs import BASE
from transformers import AutoConfig

from gmpo_vl.cli import main
from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.loading import load_model, model_config, model_folder
from gmpo_vl.models.shared import ATTENTION
from gmpo_vl.models.tiny import save_tiny

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}

ONE_TEXT = "a prompt and its response are one text here"
REFUSED = {
    "t5": ONE_TEXT,
    "bart": ONE_TEXT,
    "whisper": ONE_TEXT,
    "pix2struct": ONE_TEXT,
    "bert": "its tokens see those that come after them",
    "roberta": "its tokens see those that come after them",
    "vit": "no class of it that writes text",
    "clip": "no class of it that writes text",
    "wav2vec2": "no class of it that writes text",
    "diffusion_gemma": "do not grow token by token",
}


def folder_with(path, **config):
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_cannot_answer(kind, tmp_path):
    if kind == "diffusion_gemma" and not TRANSFORMERS_5:
        pytest.skip("4.57 does not know it")
    for read in (model_config, load_model):
        with pytest.raises(ValueError, match=f"'{kind}' cannot answer here: .*{REFUSED[kind]}; take a model"):
            read(folder_with(tmp_path, model_type=kind))


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_no_command_blames_the_rows_for_it(kind, overrides, diagrams, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(BASE)
    folder = save_tiny(tmp_path / "model")
    folder_with(folder, model_type=kind)
    for file in ("preprocessor_config.json", "processor_config.json"):
        (folder / file).unlink()
    config = [str(tmp_path / "run.yaml"), *overrides, f"worker.actor.model.model_path={folder}"]
    evaluation = ["eval", str(folder), "--data", str(diagrams / "test.parquet")]
    for command in (evaluation, ["train", *config], ["data", "check", *config], ["data", "show", *config]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"a '{kind}' cannot answer here: " in said, command
        assert "parquet" not in said
    assert main(["doctor", *config]) == 1
    assert capsys.readouterr().out.count("ERROR") == 1


def test_a_bert_that_decodes_is_a_causal_model(tmp_path):
    config = AutoConfig.for_model("bert", **SMALL, is_decoder=True)
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    assert load_model(tmp_path).config.is_decoder


@pytest.mark.parametrize("config", [{"_class_name": "UNet2DConditionModel"}, {"architecture": "resnet18"}])
def test_a_configuration_of_another_library(config, tmp_path):
    (folder := tmp_path / "bert").mkdir()  # 4.57 would take the folder's name for the kind
    with pytest.raises(ValueError, match="names no model_type: not a model of transformers"):
        model_config(folder_with(folder, **config))


def test_a_diffusion_pipeline(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="diffusion pipeline: it makes pictures and writes no text"):
        model_folder(str(tmp_path))


def test_a_kind_that_transformers_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="has no class for its configuration"):
        model_config(folder_with(tmp_path, model_type="of_next_year"))


@pytest.mark.parametrize("task", ["Qwen2ForSequenceClassification", "Qwen2Model"])
def test_weights_of_another_task_are_not_made_up(task, tmp_path):
    config = AutoConfig.for_model("qwen2", **SMALL, num_key_value_heads=2)
    getattr(transformers, task)(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lack 1 weights of a Qwen2ForCausalLM \(lm_head.weight\)"):
        load_model(tmp_path)


def test_weights_in_other_shapes_are_not_made_up(tmp_path):
    config = AutoConfig.for_model("qwen2", **SMALL, num_key_value_heads=2)
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    changed = {**json.loads((tmp_path / "config.json").read_text()), "intermediate_size": 24}
    said = r"have 3 weights in other shapes than config.json gives a Qwen2ForCausalLM \(model.layers.0.mlp"
    with pytest.raises(ValueError, match=said):
        load_model(folder_with(tmp_path, **changed))


# 4.57 itself gives Gemma2 SDPA, without its cap.
@pytest.mark.parametrize("kind", ["mamba", "gemma2"] if TRANSFORMERS_5 else ["mamba"])
def test_a_model_without_sdpa_keeps_its_own_attention(kind, tmp_path):
    """Gemma2's caps its scores: SDPA, and what stands in for it here, would leave that out."""
    settings = {"num_key_value_heads": 2, "head_dim": 8} if kind == "gemma2" else {"state_size": 4}
    config = AutoConfig.for_model(kind, **SMALL, **settings)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    folder_with(tmp_path, **saved, attn_implementation="flash_attention_2")  # the file does not choose
    with pytest.warns(UserWarning, match="prompts are not shared"):
        model = load_model(tmp_path)
    used = model.config._attn_implementation
    assert used != ATTENTION
    if TRANSFORMERS_5:
        assert used == "eager"
