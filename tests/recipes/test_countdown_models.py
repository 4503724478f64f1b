"""The two scripts that make CountDown's models run from one end to the other."""

import json


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
