"""LoRA adapters on weights that two parts of a model share, and models that an adapter was merged into."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from gmpo_vl.models.adapters import shared_targets
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.tiny import save_tiny


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), tied=request.param), request.param


def saved_adapter(base, folder, targets):
    """An adapter that changes something, and the log-probs of the model under it."""
    torch.manual_seed(0)
    adapted = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=targets)).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder)
    return adapted, log_probs(adapted)


def log_probs(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(10, 30)[None]).logits.log_softmax(-1)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_shared_weights_is_found_and_never_merged(base, tmp_path, target):
    folder, tied = base
    adapted, trained = saved_adapter(folder, tmp_path / "adapter", [target, "q_proj"])
    assert [name.rpartition(".")[2] for name in shared_targets(adapted)] == ([target] if tied else [])
    if tied:
        with pytest.raises(ValueError, match=rf"its adapter is on \S*{target}, and another part"):
            load_model(tmp_path / "adapter")
        return
    torch.testing.assert_close(log_probs(load_model(tmp_path / "adapter").eval()), trained)


def test_a_merged_model_trains_as_one_that_never_had_an_adapter(base, tmp_path):
    folder, _ = base
    saved_adapter(folder, tmp_path / "adapter", ["q_proj"])
    of_base, of_merged = (
        {name: p.requires_grad for name, p in load_model(at).named_parameters()}
        for at in (folder, tmp_path / "adapter")
    )
    assert of_merged == of_base
    assert any(of_merged.values())
