"""`--workers N`: N processes on this machine, each with one of N shards, one GPU each where there are GPUs.

Plain processes over a shared folder instead of Ray actors: a shard needs nothing from another one, and on several machines
`--shard i/k` is the same thing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gmpo_vl.evaluation.run import Job, Shard
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.runs import EvaluationFolder

POLL = 0.2  # seconds


def run_workers(
    job: Job,
    folder: EvaluationFolder,
    count: int,
    answer_shard: Callable[[Any, Shard], None],
    options: Any,
    progress: Callable[[int], None],
) -> None:
    """Run `answer_shard(options, (i, count))` in a process of its own for every i; returns when all have ended.

    Raises ChildProcessError when one of them fails; the others are ended then, and lose their unfinished chunk only.
    """
    context = multiprocessing.get_context("spawn")
    processes = []
    try:
        for i in range(count):
            process = context.Process(target=answer_shard, args=(options, (i + 1, count)), daemon=True)
            with _environment(_share_of_machine(i, count)), away_from_working_directory():
                process.start()
            processes.append(process)
        seen: set[int] = set()
        while any(process.is_alive() for process in processes):
            time.sleep(POLL)
            new = set(folder.finished_chunks()) - seen
            seen |= new
            progress(sum(len(job.chunk(number)) for number in new))
            if failed := [process for process in processes if process.exitcode not in (None, 0)]:
                raise ChildProcessError(
                    f"{len(failed)} of {count} workers failed (exit code {failed[0].exitcode}); what they said stands above. "
                    "The same command goes on from the chunks that are finished."
                )
    finally:
        for process in processes:
            process.kill()
            process.join()


def _share_of_machine(i: int, count: int) -> dict[str, str]:
    """What worker i may use: its GPU, or its share of the cores."""
    import torch

    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(
            map(str, range(torch.cuda.device_count()))
        )
        devices = visible.split(",")
        return {"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]}
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a process started inside inherits."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
