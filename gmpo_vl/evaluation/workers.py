"""`--workers N`: N processes on this machine, each with one of N shards, one GPU each where there are GPUs.

Plain processes over a shared folder instead of Ray actors: a shard needs nothing from another one, and on several machines
`--shard i/k` is the same thing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
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
    shares = _shares_of_machine(count, job.backend)
    processes = []
    try:
        for i, share in enumerate(shares):
            # No daemon: such a process may not start others, and vLLM's engine is one.
            process = context.Process(
                target=_answer_in_group, args=(answer_shard, options, (i + 1, count), os.getcwd())
            )
            with _environment(share), away_from_working_directory():
                process.start()
            processes.append(process)
        seen: set[int] = set()
        running = True
        while running:
            time.sleep(POLL)
            running = any(
                process.is_alive() for process in processes
            )  # before the exit codes: the last one counts, too
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
            _end(process)


def _answer_in_group(
    answer_shard: Callable[[Any, Shard], None], options: Any, shard: Shard, where: str
) -> None:
    """A worker leads a process group of its own, which ends with it, and with the process that started it."""
    os.chdir(where)
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer_shard(options, shard)


def _end_with_parent() -> None:
    """A parent that is killed ends nobody: its workers would keep their GPUs, and write beside those of the next command."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _end(process: BaseProcess) -> None:
    """Kill a worker and what it started, also where it has ended and left something behind."""
    with suppress(ProcessLookupError, PermissionError):  # gone, or not yet a group's leader
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()
    process.join()


def _shares_of_machine(count: int, backend: Any) -> list[dict[str, str]]:
    """What each worker may use: its GPUs, or its share of the cores. Raises ValueError where there are too few GPUs."""
    import torch

    if not torch.cuda.is_available():
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
        return [{"OMP_NUM_THREADS": threads}] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return [{"CUDA_VISIBLE_DEVICES": gpus} for gpus in _dealt(visible.split(","), count, backend)]


def _dealt(devices: list[str], count: int, backend: Any) -> list[str]:
    """The GPUs of each of `count` workers. Workers on transformers share those that there are; vLLM takes most of a GPU's memory,
    so that a second one would not start beside it."""
    each = backend.tensor_parallel
    if backend.name == "vllm" and count * each > len(devices):
        asked = f"--workers {count}" + (f" --tensor-parallel {each}" if each > 1 else " --backend vllm")
        raise ValueError(f"{asked}: that takes {count * each} GPUs; {len(devices)} are visible")
    return [",".join(devices[(i * each + j) % len(devices)] for j in range(each)) for i in range(count)]


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
