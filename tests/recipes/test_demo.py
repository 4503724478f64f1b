"""`make demo`, shortened: the script runs from one end to the other and says what it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_demo_writes_its_page_and_summary(tmp_path):
    command = [
        sys.executable,
        "recipes/demo.py",
        "--test-problems",
        "28",
        f"trainer.save_checkpoint_path={tmp_path / 'run'}",
    ]
    data = [
        f"data.{kind}_files={tmp_path / 'run/data' / name}.parquet"
        for kind, name in (("train", "train"), ("val", "validation"))
    ]
    result = subprocess.run(
        [*command, *data, "trainer.max_steps=2", "trainer.save_freq=2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "28 test problems" in result.stdout
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert {"before", "after", "diff", "diff_ci95", "blank_image", "wrong_image", "seconds"} <= set(summary)
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    assert summary["before"] > summary["blank_image"]
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "What this run does not show" in page or "does not show" in page
