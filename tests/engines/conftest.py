"""A configuration of engine local that trains in seconds, and a run that goes on."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import BASE, settings_of_run

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.engines.local.engine import train
from gmpo_vl.runs import Run


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture(scope="module")
def saved(request, tmp_path_factory, diagrams, tiny_folder) -> Path:
    """A run of the module's STEPS under its SETTINGS: nobody writes into it."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "run.yaml").write_text(BASE)
    steps = f"trainer.max_steps={request.module.STEPS}"
    settings = [*settings_of_run(folder, diagrams, tiny_folder), *request.module.SETTINGS, steps]
    return train(load_config(folder / "run.yaml", settings)).folder


@pytest.fixture
def run(saved, tmp_path) -> Run:
    return Run(shutil.copytree(saved, tmp_path / "run"))


@pytest.fixture
def go_on(request, config_file, overrides, capsys):
    """The same command again, with a step more: exit code and what it said."""

    def command(*more: str) -> tuple[int, str]:
        settings = [*request.module.SETTINGS, f"trainer.max_steps={request.module.STEPS + 1}", *more]
        code = main(["train", str(config_file), *overrides, *settings])
        said = capsys.readouterr()
        return code, said.out + said.err

    return command
