"""Where EasyR1 is not installed: a sentence, and a dry run that says what it could not ask."""

import pytest
from tiny_families import save_tiny_family

from gmpo_vl.cli import main
from gmpo_vl.engines.easyr1.compatibility import find_easyr1
from gmpo_vl.models.compat import TRANSFORMERS_5

pytestmark = pytest.mark.skipif(find_easyr1() is not None, reason="EasyR1 is installed")


def test_training_says_what_to_install(tmp_path, config_file, overrides, capsys):
    assert main(["train", str(config_file), *overrides]) == 2
    said = capsys.readouterr().err
    assert "engine: easyr1 needs EasyR1" in said
    assert "engine=local" in said
    assert not (tmp_path / "run").exists()


def test_a_dry_run_still_checks_files_and_sizes(config_file, overrides, capsys):
    assert main(["train", str(config_file), *overrides, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "its own configuration classes were not asked" in said
    assert "a GPU       2 prompts (8 rollouts) of an update" in said
    assert main(["train", str(config_file), *overrides, "--dry-run", "trainer.n_gpus_per_node=3"]) == 2
    assert "multiples of the 3 GPUs" in capsys.readouterr().err


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 does not know the kind")
def test_a_kind_that_easyr1_s_transformers_does_not_know_is_refused(config_file, overrides, tmp_path, capsys):
    model = f"worker.actor.model.model_path={save_tiny_family(tmp_path / 'model', 'qwen3_5')}"
    assert main(["train", str(config_file), *overrides, model, "--dry-run"]) == 2
    said = "a 'qwen3_5' needs transformers 5, and EasyR1 and its vLLM run with 4; engine: local trains it"
    assert said in capsys.readouterr().err
