"""Ways in which a test stops an evaluation in the middle."""

import os
import signal

from gmpo_vl.cli import main
from gmpo_vl.evaluation import backends
from gmpo_vl.evaluation.sharing import answer_shard
from gmpo_vl.processes import fork_server
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.study.runner import PRELOADED


class Interrupted(Exception):
    """What a test stops a run with."""


def interrupt_after(monkeypatch, calls: int) -> None:
    """The sampler answers so often and then dies; without games each call is a chunk."""
    real, made = backends.generate, []

    def generate(*arguments, **options):
        made.append(1)
        if len(made) > calls:
            raise Interrupted
        return real(*arguments, **options)

    monkeypatch.setattr(backends, "generate", generate)


def _die_after_one_chunk() -> None:
    """From now on this process kills itself when it has written a chunk."""
    write = EvaluationFolder.write_chunk

    def write_and_die(self, *arguments):
        write(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    EvaluationFolder.write_chunk = write_and_die  # pyright: ignore[reportAttributeAccessIssue]


def dies_after_one_chunk(again, place, shard) -> None:
    """A worker process of which the first is killed when its first chunk is there."""
    if shard[0] == 1:
        _die_after_one_chunk()
    answer_shard(again, place, shard)


def _killed(arguments: list[str]) -> None:
    _die_after_one_chunk()
    main(arguments)


def kill_after_one_chunk(*arguments: object) -> None:
    """The command line in a process of its own, which SIGKILL ends when its first chunk is there."""
    context = fork_server(PRELOADED)  # one import for all of them
    process = context.Process(target=_killed, args=([str(argument) for argument in arguments],))  # pyright: ignore[reportAttributeAccessIssue]
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
