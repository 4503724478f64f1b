"""Adapters and frozen ViTs are counted as peft and the engine make them."""

import pytest
from families.tiny import each_family
from tiny_families import save_tiny_family, save_tiny_text

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import ConfigError
from gmpo_vl.engines.local.engine import build_policy, train
from gmpo_vl.models.moe import save_tiny_moe
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.preflight.model_check import check_model_class
from gmpo_vl.preflight.plan import dry_run
from gmpo_vl.sizing.estimate import PromptLengths, estimate_local
from gmpo_vl.sizing.limits import PassLimits
from gmpo_vl.sizing.parameters import check_adapters, lora_parameters, model_size

ONE_ROW = PassLimits(Limits(max_rows=1), Limits(max_rows=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"target_modules": "q_proj, v_proj"},
        {"target_modules": "q_proj"},
        {"target_modules": ".*mlp.*_proj"},
        {"target_modules": "all-linear", "exclude_modules": ".*(visual|o_proj).*"},
    ],
    ids=str,
)
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("moe", [False, True], ids=["vl", "moe"])
def test_adapters_are_counted_as_peft_puts_them_on(settings, frozen, moe, unsaid, tiny_folder, tmp_path):
    if moe and frozen:
        pytest.skip("no ViT")
    folder = save_tiny_moe(tmp_path / "moe") if moe else tiny_folder
    lora = ", ".join(f"{key}: '{value}'" for key, value in settings.items())
    config = unsaid(
        f"worker.actor.model.model_path={folder}",
        f"worker.actor.model.lora={{rank: 3, {lora}}}",
        f"worker.actor.model.freeze_vision_tower={str(frozen).lower()}",
    )
    model = build_policy(config, load_processor(folder)).model
    found = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    assert lora_parameters(config, model_size(folder)) == found > 0


@each_family()
def test_the_vit_is_found_frozen_and_left_out(name, unsaid, folder_of):
    """Of every family: adapters with a frozen ViT are counted as peft puts them on, none in the ViT."""
    folder = folder_of(name)
    frozen = "worker.actor.model.freeze_vision_tower=true"
    path = f"worker.actor.model.model_path={folder}"
    size = model_size(folder)
    assert 0 < size.vision < size.parameters
    whole = build_policy(unsaid(path, frozen), load_processor(folder)).model
    assert sum(p.numel() for p in whole.parameters() if not p.requires_grad) == size.vision
    for more in ((), (frozen,), (frozen, "worker.actor.model.lora.exclude_modules=.*o_proj")):
        config = unsaid(path, "worker.actor.model.lora={rank: 3}", *more)
        model = build_policy(config, load_processor(folder)).model
        adapters = {n: p.numel() for n, p in model.named_parameters() if ".lora_" in n}
        assert lora_parameters(config, size) == sum(adapters.values()) > 0
        assert any(tower in n for n in adapters for tower in size.towers) == (not more)


@pytest.mark.parametrize("kind", ["qwen3_moe", "qwen3_vl_moe"])
def test_adapters_on_experts_are_counted(kind, unsaid, tmp_path):
    """peft takes `all-linear` to mean the experts' tensors too, of some kinds."""
    folder = save_tiny_family(tmp_path / "model", kind)
    config = unsaid(f"worker.actor.model.model_path={folder}", "worker.actor.model.lora={rank: 3}")
    model = build_policy(config, load_processor(folder)).model
    found = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    assert lora_parameters(config, model_size(folder)) == found > 0


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", ".*lm_head"])
def test_adapters_on_a_tied_head_or_embedding_are_refused_before_training(unsaid, tmp_path, target):
    settings = f"worker.actor.model.lora={{rank: 3, target_modules: '{target}'}}"
    for tied in (True, False):
        folder = save_tiny(tmp_path / f"tied_{tied}", tied=tied)
        config = unsaid(f"worker.actor.model.model_path={folder}", settings)
        size = model_size(folder)
        errors = [found for found in check_model_class(config, size) if found.level == "error"]
        if not tied:
            assert errors == []
            check_adapters(config, size)
            continue
        (error,) = errors
        assert (error.where, error.change) == ("worker.actor.model.lora.target_modules", "leave it out")
        for refusing in (dry_run, train):
            with pytest.raises(ConfigError, match=r"another part of this 'qwen2_5_vl' has the same weights"):
                refusing(config)


def test_adapters_on_bf16_weights_are_held_in_float32(unsaid, tiny_folder):
    config = unsaid("worker.actor.model.lora={rank: 3}", "worker.actor.fsdp.torch_dtype=bf16")
    model, size = build_policy(config, load_processor(tiny_folder)).model, model_size(tiny_folder)
    held = sum(p.nbytes for p in model.parameters())
    found = estimate_local(config, size, PromptLengths(100), ONE_ROW, cuda=True).held
    assert {part.name: part.bytes for part in found}["weights"] == pytest.approx(held, rel=1e-3)


def test_freezing_a_vit_that_is_not_there_is_an_error_in_words(unsaid, tmp_path):
    folder = save_tiny_text(tmp_path / "text")
    config = unsaid(f"worker.actor.model.model_path={folder}", "worker.actor.model.freeze_vision_tower=true")
    for ask in (lambda: build_policy(config, load_processor(folder)), lambda: dry_run(config)):
        with pytest.raises(ConfigError, match="no ViT is found in a 'qwen2'; write false"):
            ask()
    [error] = [f for f in check_model_class(config, model_size(folder)) if f.level == "error"]
    assert error.where == "worker.actor.model.freeze_vision_tower"
