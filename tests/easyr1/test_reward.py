"""The reward runs in a Ray process: what its file asks for of the row reaches it there, and a judge's key."""

from pathlib import Path

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

import ray
from judge_server import SECRET, judge_server

from gmpo_vl.engines.easyr1.config import with_absolute_paths
from gmpo_vl.engines.easyr1.driver import RemoteReward, start_ray, train
from gmpo_vl.runs import Run
from gmpo_vl.setup import load_configured_reward
from gmpo_vl.tasks.diagrams.data import make_examples
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


def test_a_judge_asks_from_its_process_with_a_key_that_ray_does_not_write(tmp_path, make_config, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    example = make_examples("train", 1, seed=0)[0]
    answered = [(example, [("one", 1), ("two", 1), (rf"\boxed{{{example.answer}}}", 5)])]
    options = {"model": "m", "cache": "replies", "with_images": "true"}
    with judge_server() as server:
        config = make_config(
            "worker.reward.reward_function=judge",
            f"worker.reward.reward_function_kwargs.base_url={server.url}",
            *(f"worker.reward.reward_function_kwargs.{key}={value}" for key, value in options.items()),
        )
        start_ray(config)  # its processes have no key, as on a cluster that somebody else started
        try:
            monkeypatch.setenv("OPENAI_API_KEY", SECRET)
            here = load_configured_reward(config)
            found = RemoteReward(with_absolute_paths(config), here).scored(answered)
            logs = Path(ray._private.worker._global_node.get_session_dir_path())
        finally:
            ray.shutdown()
        assert len(list(tmp_path.glob("replies/*/*.jsonl"))) == 1, "seen from where the run was started"
        assert server.keys == {f"Bearer {SECRET}"}
        asked = server.asked.total()
        assert here.scored(answered) == found
        assert server.asked.total() == asked == 2
        assert [score["accuracy"] for score, _ in found][2] == 1.0
    files = [path for folder in (tmp_path, logs) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
