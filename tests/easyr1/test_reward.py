"""The reward runs in a Ray process: what its file asks for of the row reaches it there."""

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from gmpo_vl.engines.easyr1.driver import train
from gmpo_vl.runs import Run
from gmpo_vl.tasks.diagrams.figures import SIZE

LOOKS = """
REWARD_INPUTS = ("id", "images", "meta")

def compute_score(reward_inputs):
    scores = []
    for given in reward_inputs:
        (picture,) = given["images"]
        assert picture.mode == "RGB" and given["id"].endswith(given["meta"]["family"])
        scores.append({"overall": float(len(given["response"]) % 2), "width": picture.width})
    return scores
"""


def test_pictures_and_meta_of_the_row_reach_the_reward_in_its_process(tmp_path, make_config):
    (tmp_path / "looks.py").write_text(LOOKS)
    config = make_config(
        f"worker.reward.reward_function={tmp_path / 'looks.py'}:compute_score", "trainer.max_steps=1"
    )
    train(config)
    before, after = Run(tmp_path / "run").read_metrics()
    assert before["val/width"] == after["val/width"] == after["reward/width"] == SIZE
