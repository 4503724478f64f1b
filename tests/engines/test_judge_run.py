"""A run that a judge rewards, killed while it waits for a reply: the same curve, and nothing asked twice."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from judge_server import AT_ONCE, SECRET, Answer, by_hash, judge_server, text_of

from gmpo_vl.engines.local.engine import train
from gmpo_vl.rewards.endpoint import replies_in
from gmpo_vl.runs import Run


@pytest.fixture
def settings(monkeypatch, tmp_path, overrides):
    """Of a run into the folder `name`, one question at a time."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    def of(name, server):
        replies_in.cache_clear()  # as a new process
        options = {"model": "m", "base_url": server.url, "cache": tmp_path / "replies", "concurrency": 1}
        return [
            *overrides,
            f"trainer.save_checkpoint_path={tmp_path / name}",
            "worker.reward.reward_function=judge",
            *(f"worker.reward.reward_function_kwargs.{key}={value}" for key, value in options.items()),
        ]

    return of


def curve(run):
    """What the run logged, without what depends on the machine."""
    lines = run.read_metrics()
    return [
        {k: v for k, v in line.items() if not k.startswith(("time/", "perf/", "memory/"))} for line in lines
    ]


def test_a_killed_run_has_the_curve_of_an_unbroken_one_and_asks_nothing_twice(
    tmp_path, config_file, make_config, settings
):
    with judge_server() as server:
        whole = curve(train(make_config(*settings("whole", server))))
        asked = server.asked.total()
        assert set(server.asked.values()) == {1}
        assert curve(train(make_config(*settings("rerun", server)))) == whole
        assert server.asked.total() == asked, "a rerun asks nothing"
    assert {line["reward/unscored"] for line in whole if "reward/unscored" in line} == {0.0}
    assert any(0 < line.get("reward/accuracy", 0) < 1 for line in whole)

    answered, trouble = Counter(), Answer(status=500, headers=AT_ONCE)

    def answer(body):
        """Three quarters of the way, after a checkpoint, the run is killed; later the endpoint fails, then
        it says nothing that can be read."""
        if answered.total() == asked * 3 // 4 and broken.returncode is None:
            os.kill(broken.pid, signal.SIGKILL)
            broken.wait()
            return Answer(status=500)
        if answered.total() == asked * 7 // 8 and trouble is not None:
            return trouble
        answered[text_of(body)] += 1
        return by_hash(body)

    with judge_server(answer) as server:
        command = [sys.executable, "-m", "gmpo_vl", "train", str(config_file), *settings("broken", server)]
        broken = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})  # as conftest.py
        assert broken.wait() == -signal.SIGKILL
        assert Run(tmp_path / "broken").checkpoint_steps() == [2]
        with pytest.raises(ConnectionError, match=r"InternalServerError.* The same command goes on"):
            train(make_config(*settings("broken", server)))
        trouble = Answer("That is a hard one.")
        with pytest.raises(ConnectionError, match=r"no verdict, twice.* The same command goes on"):
            train(make_config(*settings("broken", server)))
        trouble = None
        assert curve(train(make_config(*settings("broken", server)))) == whole
    assert answered.total() == asked
    assert set(answered.values()) == {1}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
