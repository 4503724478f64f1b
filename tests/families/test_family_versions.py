"""A family's folder written under one version of transformers is the same model under the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from families import versions

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.families, pytest.mark.filterwarnings("ignore:prompts are not shared")]


def other_python() -> Path | None:
    """Of another environment of the Makefile, with the other major version of transformers."""
    for environment in sorted({*Path(sys.prefix).parent.glob(".venv*"), *ROOT.glob(".venv*")}):
        found = [
            path.name for path in environment.glob("lib/python3*/site-packages/transformers-*.dist-info")
        ]
        if any(name.startswith("transformers-5") != versions.IS_5 for name in found):
            return environment / "bin" / "python"
    return None


def test_every_familys_log_probs_are_the_same_under_the_other_version(tmp_path):
    python = other_python()
    if python is None:
        pytest.skip("only one version of transformers is installed here: make setup setup-t4 installs both")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    versions.write(ours)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [python, versions.__file__, ours, theirs], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = {f"ours {k}": v for k, v in json.loads((ours / "gaps.json").read_text()).items()}
    found |= {f"theirs {k}": v for k, v in versions.gaps(theirs).items()}
    assert len(found) >= 2 * 2 * 6
    assert not {name: gap for name, gap in found.items() if isinstance(gap, str) or not gap < 1e-4}
