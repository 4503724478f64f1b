"""The work of one evaluation in several processes: `--workers N` and `--ray N`.

A worker is a plain process with one of N shards; it writes into the shared folder. A shard needs nothing from
another one, and `--shard i/k` is the same on several machines. A Ray actor takes whichever chunk is next and
sends it back with its pictures; only the process that started it writes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gmpo_vl.evaluation.answering import ChunkWriter, Progress, answer_chunks
from gmpo_vl.evaluation.backends import BackendChoice
from gmpo_vl.evaluation.chunks import sound_chunks
from gmpo_vl.evaluation.prepare import Prepared, Shard
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.runs import EvaluationFolder

POLL = 0.2  # seconds
Prepare = Callable[[], Prepared]  # reads protocol, data and model in another process


# --- worker processes ---------------------------------------------------------------------------------------
def answer_shard(prepare: Prepare, place: Path, shard: Shard) -> None:
    """What a worker process does. The one that started it holds the folder's lock."""
    answer_chunks(prepare(), EvaluationFolder(place), shard)


def run_workers(prepared: Prepared, folder: EvaluationFolder, count: int, progress: Progress) -> None:
    """Answer shard i of `count` in a process of its own for every i; returns when all have ended.

    Each process has one GPU where there are GPUs. Raises ChildProcessError when one of them fails; the others
    are ended then, and lose their unfinished chunk only.
    """
    context = multiprocessing.get_context("spawn")
    shares = _shares_of_machine(count, prepared.backend)
    work = partial(answer_shard, prepared.again(), folder.folder)
    processes: list[BaseProcess] = []
    try:
        for i, share in enumerate(shares):
            # A daemon may not start processes, and vLLM's engine is one.
            process = context.Process(target=_in_group, args=(work, (i + 1, count), os.getcwd()))
            with _environment(share), away_from_working_directory():
                process.start()
            processes.append(process)
        seen: set[int] = set()
        running = True
        while running:
            time.sleep(POLL)
            # Before the chunks and exit codes are read: what the last worker does in between counts, too.
            running = any(process.is_alive() for process in processes)
            new = set(folder.finished_chunks()) - seen
            seen |= new
            progress(sum(len(prepared.chunk(number)) for number in new))
            if failed := [process for process in processes if process.exitcode not in (None, 0)]:
                raise ChildProcessError(
                    f"{len(failed)} of {count} workers failed (exit code {failed[0].exitcode}); what they "
                    "said stands above. The same command goes on from the chunks that are finished."
                )
    finally:
        for process in processes:
            _end(process)


def _in_group(work: Callable[[Shard], None], shard: Shard, where: str) -> None:
    """A worker leads a process group of its own, which ends with it, and with the process that started it."""
    os.chdir(where)
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(shard)


def _end_with_parent() -> None:
    """A killed parent would leave workers that keep their GPUs and write beside the next command's."""
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


def _shares_of_machine(count: int, backend: BackendChoice) -> list[dict[str, str]]:
    """Each worker's GPUs, or its share of the cores. Raises ValueError where there are too few GPUs."""
    import torch

    if not torch.cuda.is_available():
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
        return [{"OMP_NUM_THREADS": threads}] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return [{"CUDA_VISIBLE_DEVICES": gpus} for gpus in _dealt(visible.split(","), count, backend)]


def _dealt(devices: list[str], count: int, backend: BackendChoice) -> list[str]:
    """The GPUs of each of `count` workers. Workers on transformers share those that there are.

    vLLM takes most of a GPU's memory, so a second one would not start beside it.
    """
    each = backend.tensor_parallel
    if backend.name == "vllm" and count * each > len(devices):
        asked = f"--workers {count}" + (f" --tensor-parallel {each}" if each > 1 else " --backend vllm")
        raise ValueError(f"{asked}: that takes {count * each} GPUs; {len(devices)} are visible")
    return [",".join(devices[(i * each + j) % len(devices)] for j in range(each)) for i in range(count)]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a process started inside inherits."""
    before = {key: os.environ[key] for key in values if key in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for key in values:
            del os.environ[key]
        os.environ.update(before)


# --- Ray actors ---------------------------------------------------------------------------------------------
class Actor:
    """Lives in a process of Ray's, on this machine or on another one with the same paths."""

    def __init__(self, prepare: Prepare, where: str):
        os.chdir(where)
        self.writer = ChunkWriter(prepare())

    def answer(self, number: int) -> dict[str, bytes]:
        """A chunk's files, by their paths in the evaluation's folder."""
        with TemporaryDirectory() as temporary:
            folder = EvaluationFolder(temporary)
            folder.images.mkdir()
            self.writer.write(number, folder)
            return folder.contents()


def run_actors(prepared: Prepared, folder: EvaluationFolder, count: int, progress: Progress) -> None:
    """Answer every chunk that is not there yet. An actor has one GPU, where the cluster has GPUs.

    Ray is started on this machine, or found by RAY_ADDRESS. Raises ValueError where there is no Ray or not
    enough of a cluster, ChildProcessError when an actor fails: what was answered until then is kept.
    """
    if find_spec("ray") is None:
        raise ValueError("--ray needs Ray, which is not installed here: `pip install ray`, or use --workers")
    import ray  # pyright: ignore[reportMissingImports]

    done = sound_chunks(folder, prepared.plan, ids=prepared.ids)
    progress(sum(len(prepared.chunk(number)) for number in done))
    waiting = [number for number in range(prepared.chunks) if number not in done]
    begun = not ray.is_initialized()
    if begun:
        with away_from_working_directory():  # which Ray puts first on its processes' module path
            ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
    actors: list[Any] = []
    try:
        actors += _start_actors(ray, prepared, min(count, len(waiting)))
        for number, contents in _answered(ray, actors, waiting):
            folder.receive(contents)
            progress(len(prepared.chunk(number)))
    except ray.exceptions.RayError as error:
        raise ChildProcessError(
            f"a Ray actor failed: {error}\nThe same command goes on from the chunks that are finished."
        ) from error
    finally:
        for actor in actors:
            ray.kill(actor)
        if begun:
            ray.shutdown()


def _start_actors(ray: Any, prepared: Prepared, count: int) -> list[Any]:
    kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
    each = prepared.backend.tensor_parallel  # GPUs of one actor
    there = ray.cluster_resources().get(kind, 0)
    if count * each > there:
        apart = f" of {each} GPUs each" if each > 1 else ""
        raise ValueError(f"--ray {count}{apart}: the cluster has {there:g} {kind}s")
    remote = ray.remote(num_cpus=1, num_gpus=each if kind == "GPU" else 0)(Actor)
    return [remote.remote(prepared.again(), os.getcwd()) for _ in range(count)]


def _answered(
    ray: Any, actors: Sequence[Any], numbers: Sequence[int]
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """(chunk, its files) as they are answered: an actor that is done takes the next chunk."""
    chunks = iter(numbers)
    running = {actor.answer.remote(number): (actor, number) for actor, number in zip(actors, chunks)}
    while running:
        [finished], _ = ray.wait(list(running), num_returns=1)
        actor, number = running.pop(finished)
        yield number, ray.get(finished)
        if (another := next(chunks, None)) is not None:
            running[actor.answer.remote(another)] = (actor, another)
