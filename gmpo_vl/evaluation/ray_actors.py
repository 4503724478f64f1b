"""`--ray N`: N Ray actors answer chunks, one GPU each where the cluster has GPUs, on this machine or on several.

An actor takes whichever chunk is next and sends it back with its pictures; this process alone writes. A chunk is the
same wherever it was answered, so a killed run goes on as any other, with actors or without.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from gmpo_vl.evaluation.chunks import sound_chunks
from gmpo_vl.evaluation.run import Answerer, Job
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.runs import EvaluationFolder


class Actor:
    """Lives in a process of Ray's. prepare: reads protocol, data and model there, at the same paths as here."""

    def __init__(self, prepare: Callable[[], Job], where: str):
        os.chdir(where)
        self.answerer = Answerer(prepare())

    def answer(self, number: int) -> dict[str, bytes]:
        """A chunk's files, by their paths in the evaluation's folder."""
        with TemporaryDirectory() as temporary:
            folder = EvaluationFolder(temporary)
            folder.images.mkdir()
            self.answerer.write(number, folder)
            return folder.contents()


def run_actors(
    job: Job,
    folder: EvaluationFolder,
    count: int,
    prepare: Callable[[], Job],
    progress: Callable[[int], None],
) -> None:
    """Answer every chunk that is not there yet; returns when all are.

    Ray is started on this machine, or found by RAY_ADDRESS. Raises ValueError where there is no Ray or not enough of a
    cluster, ChildProcessError when an actor fails: what was answered until then is kept.
    """
    if find_spec("ray") is None:
        raise ValueError("--ray needs Ray, which is not installed here: `pip install ray`, or use --workers")
    import ray  # pyright: ignore[reportMissingImports]

    done = sound_chunks(folder, job.plan, ids=job.ids)
    progress(sum(len(job.chunk(number)) for number in done))
    waiting = [number for number in range(job.chunks) if number not in done]
    begun = not ray.is_initialized()
    if begun:
        with away_from_working_directory():  # which Ray puts first on its processes' module path
            ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
    try:
        _answer_all(ray, job, folder, waiting, min(count, len(waiting)), prepare, progress)
    except ray.exceptions.RayError as error:
        raise ChildProcessError(
            f"a Ray actor failed: {error}\nThe same command goes on from the chunks that are finished."
        ) from error
    finally:
        if begun:
            ray.shutdown()


def _answer_all(
    ray: Any,
    job: Job,
    folder: EvaluationFolder,
    waiting: list[int],
    count: int,
    prepare: Callable[[], Job],
    progress: Callable[[int], None],
) -> None:
    kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
    each = job.backend.tensor_parallel  # GPUs of one actor
    there = ray.cluster_resources().get(kind, 0)
    if count * each > there:
        apart = f" of {each} GPUs each" if each > 1 else ""
        raise ValueError(f"--ray {count}{apart}: the cluster has {there:g} {kind}s")
    remote = ray.remote(num_cpus=1, num_gpus=each if kind == "GPU" else 0)(Actor)
    actors = [remote.remote(prepare, os.getcwd()) for _ in range(count)]
    chunks = iter(waiting)
    running = {actor.answer.remote(number): (actor, number) for actor, number in zip(actors, chunks)}
    try:
        while running:
            [finished], _ = ray.wait(list(running), num_returns=1)
            actor, number = running.pop(finished)
            folder.receive(ray.get(finished))
            progress(len(job.chunk(number)))
            if (another := next(chunks, None)) is not None:
                running[actor.answer.remote(another)] = (actor, another)
    finally:
        for actor in actors:
            ray.kill(actor)
