"""The scripts of recipes/, run here."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., str]:
    """Runs a script as `python SCRIPT ...` does, in this process: libraries take seconds to import. Gives
    what it said.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "recipes")

    def call(script: str, *arguments, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        ended = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            ended = end.code or 0
        captured = capsys.readouterr()
        assert ended == code, captured.err
        return captured.err if code else captured.out

    return call
