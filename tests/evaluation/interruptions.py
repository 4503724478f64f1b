"""Ways in which a test stops an evaluation in the middle."""

import os
import signal

from gmpo_vl.evaluation import backends
from gmpo_vl.evaluation.sharing import answer_shard
from gmpo_vl.runs import EvaluationFolder


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


def dies_after_one_chunk(again, place, shard) -> None:
    """A worker process of which the first is killed when its first chunk is there."""
    write = EvaluationFolder.write_chunk

    def write_and_die(self, *arguments):
        write(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    if shard[0] == 1:
        EvaluationFolder.write_chunk = write_and_die
    answer_shard(again, place, shard)
