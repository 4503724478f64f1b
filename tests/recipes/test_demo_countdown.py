"""`make demo-countdown`, shortened, and the two scripts that make its model: they run from one end to the other."""

import json

import pytest


def test_the_demo_writes_its_page_and_summary_and_prints_its_routers(run, tmp_path):
    folder = tmp_path / "run"
    said = run(
        "recipes/demo_countdown.py",
        "--test-problems",
        "16",
        f"trainer.save_checkpoint_path={folder}",
        "trainer.max_steps=1",
        "trainer.save_freq=1",
        "trainer.val_before_train=false",
        "data.rollout_batch_size=8",
    )
    assert "16 test problems" in said
    assert "layer 3 after" in said
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    loads = summary["router_load"]["before"]
    assert len(loads) == 3
    assert all(sum(layer) == pytest.approx(8) for layer in loads)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Load of the experts" in page
    assert "What this run does not show" in page


def test_the_warm_up_goes_from_random_weights_to_a_packaged_model(run, tmp_path):
    said = run(
        "recipes/warm_up_countdown.py",
        tmp_path / "model",
        "--steps",
        "3",
        "--batch",
        "4",
        "--puzzles",
        "8",
        "--check-every",
        "3",
    )
    assert "accuracy 0.0" in said
    assert "8 validation puzzles" in said
    assert (tmp_path / "model" / "README.md").is_file()


def test_a_mixture_is_built_from_a_folder_and_mistakes_are_told(run, tmp_path):
    from tiny_families import save_tiny_text

    save_tiny_text(tmp_path / "dense")
    said = run(
        "recipes/build_moe.py", tmp_path / "dense", tmp_path / "moe", "--experts", "4", "--active", "2"
    )
    assert "4 experts, 2 active" in said
    assert json.loads((tmp_path / "moe/config.json").read_text())["num_experts"] == 4
    assert "not empty" in run("recipes/build_moe.py", tmp_path / "dense", tmp_path / "moe", code=2)
