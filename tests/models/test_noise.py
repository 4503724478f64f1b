"""An update sees the policy that sampled: nothing is random in training mode."""

import json
import shutil

import pytest
import torch
from tiny_families import save_tiny_text
from transformers import AutoConfig, AutoModelForCausalLM

from gmpo_vl.models.loading import load_model, model_config
from gmpo_vl.models.noise import without_noise

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = {
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.3, "layerdrop": 0.3},
    "phimoe": {
        **SMALL,
        "intermediate_size": 48,
        "num_key_value_heads": 4,
        "num_local_experts": 4,
        "router_jitter_noise": 0.3,
        "input_jitter_noise": 0.3,
    },
}


def apart(model):
    """Largest gap between two ways of scoring one text."""
    ids = torch.arange(1, 30)[None]
    return (model.train()(ids).logits - model.eval()(ids).logits).abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_give_the_same(kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind]))
    assert apart(model) > 1e-3
    without_noise(model)
    assert apart(model) < 1e-6


def test_a_folder_with_dropout_is_loaded_without(tmp_path):
    folder = save_tiny_text(tmp_path / "text")
    config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    assert apart(load_model(folder)) < 1e-6
    with pytest.raises(ValueError, match="attention_dropout stays 0"):
        model_config(folder, attention_dropout=0.5)
    shutil.rmtree(folder)
