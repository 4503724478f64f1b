"""A run of every family through the command line: trained, killed, gone on with, evaluated, looked at."""

import multiprocessing
import os
import signal

import pytest
import torch
from families.tiny import each_family
from tiny_runs import BASE, protocol_text, settings_of_run

from gmpo_vl.cli import main
from gmpo_vl.runs import Run
from gmpo_vl.study.runner import PRELOADED

pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")


def killed_after_step_2(arguments: list[str]) -> None:
    """The command line with a SIGKILL, as a machine that goes down would."""
    torch.set_num_threads(1)
    append = Run.append_metrics

    def append_and_die(self, step, metrics):
        append(self, step, metrics)
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.append_metrics = append_and_die
    main(arguments)


def figures(run: Run) -> list[dict]:
    """All metrics but those of time, memory and speed."""
    skip = ("time/", "memory/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(skip)} for line in run.read_metrics()]


@pytest.fixture
def arguments(tmp_path, diagrams, folder):
    """Of a configuration of three steps, in a folder of its own."""

    def make(name: str) -> list[str]:
        where = tmp_path / name
        where.mkdir()
        (where / "run.yaml").write_text(BASE)
        few = ["data.max_prompt_length=512", "trainer.max_steps=3", "trainer.save_freq=1"]
        return [str(where / "run.yaml"), *settings_of_run(where, diagrams, folder), *few]

    return make


@each_family(common=["llava"])
def test_a_killed_run_goes_on_to_the_same_last_digit(arguments, tmp_path):
    whole, halves = arguments("whole"), arguments("halves")
    assert main(["train", *whole]) == 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=killed_after_step_2, args=(["train", *halves],))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert main(["train", *halves]) == 0
    once, twice = Run(tmp_path / "whole/run"), Run(tmp_path / "halves/run")
    assert [line["step"] for line in once.read_metrics()] == [0, 1, 2, 3]
    assert figures(once) == figures(twice)
    assert once.rollouts_file(3).read_bytes() == twice.rollouts_file(3).read_bytes()
    for line in once.read_metrics()[1:]:
        assert line["actor/grad_norm"] > 0
        assert line["rollout/mismatch_max"] <= 1e-4


@each_family()
def test_it_is_evaluated_checked_and_shown(arguments, diagrams, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_run = arguments("looked_at")
    (tmp_path / "small.yaml").write_text(protocol_text(n=2, chunk=2))
    evaluation = ["--protocol", "small.yaml", "--data", str(diagrams / "test.parquet"), "--grader", "paper"]
    assert main(["eval", str(folder), *evaluation, "--out", "answers"]) == 0
    assert "8 questions x 2" in capsys.readouterr().out
    assert main(["data", "check", *of_run]) == 0
    assert "24 rows, 0 with errors" in capsys.readouterr().out
    assert main(["data", "show", *of_run]) == 0
