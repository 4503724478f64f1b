"""recipes/accept_1gpu.sh where EasyR1 is: its lines of engine easyr1, on a CPU."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "benchmarks")]

from acceptance.__main__ import checks_of  # noqa: E402
from acceptance.runner import Place, run_all  # noqa: E402

CHECKED = ("machine", "model", "engine easyr1: LoRA, 2 steps", "engine easyr1: a third step", "export")


def test_a_run_with_lora_goes_on_and_is_exported(tmp_path):
    checks = tuple(check for check in checks_of(core=False, cuda=False) if check.name in CHECKED)
    found = run_all(checks, Place(tmp_path, False, core=False), lambda name, outcome: None)
    assert {name: outcome.verdict for name, outcome in found.items()} == dict.fromkeys(CHECKED, "PASS"), found
    assert found["engine easyr1: a third step"].figures["steps"] == 3
