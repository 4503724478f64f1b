"""`make demo`, shortened: the script runs from one end to the other and says what it should."""

import json

import pytest


def test_the_demo_writes_its_page_and_summary(run, tmp_path):
    folder = tmp_path / "run"
    said = run(
        "recipes/demo.py",
        "--test-problems",
        "28",
        f"trainer.save_checkpoint_path={folder}",
        "trainer.max_steps=2",
        "trainer.save_freq=2",
        "data.rollout_batch_size=16",
    )
    assert "28 test problems" in said
    summary = json.loads((folder / "summary.json").read_text())
    assert {"before", "after", "diff", "diff_ci95", "blank_image", "wrong_image", "seconds"} <= set(summary)
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    assert summary["before"] > summary["blank_image"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What this run does not show" in page
