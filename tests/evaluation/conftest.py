"""Tiny models and built-in diagrams for the command line, made once."""

from pathlib import Path

import pytest
from tiny_families import save_tiny_text
from tiny_runs import protocol_text

from gmpo_vl.cli import main
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.tasks.diagrams.data import export


@pytest.fixture(scope="session")
def diagrams(tmp_path_factory) -> Path:
    """14 built-in diagrams, two of each family."""
    folder = tmp_path_factory.mktemp("diagrams")
    export(folder, {"test": 14})
    return folder / "test.parquet"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory) -> Path:
    return save_tiny_text(tmp_path_factory.mktemp("models") / "tiny_text")


@pytest.fixture(scope="session")
def small_protocol(tmp_path_factory) -> Path:
    """geometry3k in small: pictures as they are, 3 answers of 12 tokens, two questions a chunk."""
    path = tmp_path_factory.mktemp("protocols") / "small.yaml"
    path.write_text(protocol_text(n=3, chunk=2))
    return path


@pytest.fixture(scope="session")
def small_eval(tiny, diagrams, small_protocol) -> list:
    """An evaluation in small, but for `--out`."""
    return ["eval", tiny, "--protocol", small_protocol, "--data", diagrams, "--grader", "paper"]


@pytest.fixture(scope="session")
def whole(small_eval, tmp_path_factory) -> Path:
    """It, uninterrupted. Shared: nobody writes into it."""
    out = tmp_path_factory.mktemp("whole")
    assert main([str(argument) for argument in [*small_eval, "--out", out]]) == 0
    return out / "small+data=test"


@pytest.fixture
def gmpo_vl(capsys):
    """The command line in this process: what it printed, and for a failure what it said."""

    def call(*arguments, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return call


@pytest.fixture(scope="session")
def content():
    """Every file of an evaluation that is the same to the byte however it was run: all but its timing."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "timing.json"
        }

    return read
