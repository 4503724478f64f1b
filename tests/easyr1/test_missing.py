"""Where EasyR1 is not installed: a sentence, and a dry run that says what it could not ask."""

import pytest

from gmpo_vl.cli import main
from gmpo_vl.engines.easyr1.compatibility import find_easyr1

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
