"""What a recipe's file runs, without EasyR1. tests/easyr1 resolves the settings."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    p for p in (ROOT / "recipes").glob("*.sh") if not p.stem.startswith(("accept", "_", "verl_"))
)


@pytest.fixture
def gmpo_vl(tmp_path):
    """A `gmpo-vl` that says where it was called and with what."""
    command = tmp_path / "gmpo-vl"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$RAY_ADDRESS" "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_ADDRESS": ""}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_its_configuration_from_any_folder(recipe, gmpo_vl, tmp_path):
    arguments = ["--dry-run", "trainer.experiment_name=two words"]
    done = subprocess.run(
        ["bash", recipe, *arguments], env=gmpo_vl, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder, address, *command = done.stdout.splitlines()
    assert Path(folder) == ROOT
    assert address == ("auto" if recipe.stem.endswith("2nodes") else "")
    assert command == ["train", f"configs/{recipe.stem}.yaml", *arguments]
    assert (ROOT / command[1]).is_file()


def test_every_recipe_stands_in_the_table():
    table = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    missing = [recipe.stem for recipe in RECIPES if f"`{recipe.stem}`" not in table]
    assert not missing
