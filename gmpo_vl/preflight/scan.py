"""All rows of a job, a few at a time, here or in worker processes; reports come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from gmpo_vl.preflight.job import Job
from gmpo_vl.preflight.rows import RowChecker, RowReport
from gmpo_vl.processes import fork_server

CHUNK = 32  # rows handed to a worker at once
IN_FLIGHT = 4  # chunks waiting for each worker
# A worker loads tokenizer and libraries first, which takes as long as a thousand rows.
ROWS_WORTH_A_WORKER = 2000

Chunk = tuple[str, range]


def scan(
    job: Job,
    checkers: Mapping[str, RowChecker],
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, RowReport]]:
    """(split, report) of every row, in the order of the rows. workers: processes; 0 looks at the rows in this one.

    Raises ChildProcessError naming the rows a worker died of (a decoder that crashed, or no memory left).
    """
    chunks = _chunks(checkers)
    found = _here(checkers, chunks) if workers == 0 else _in_workers(job, chunks, workers)
    for (split, rows), reports in found:
        for report in reports:
            yield split, report
        if progress is not None:
            progress(len(rows))


def useful_workers(num_rows: int, cores: int) -> int:
    """Processes that are worth their start; 0 for a small set."""
    wanted = min(cores, num_rows // ROWS_WORTH_A_WORKER)
    return wanted if wanted > 1 else 0


def _chunks(checkers: Mapping[str, RowChecker]) -> Iterator[Chunk]:
    for split, checker in checkers.items():
        total = sum(len(table.rows) for table in checker.tables)
        for start in range(0, total, CHUNK):
            yield split, range(start, min(start + CHUNK, total))


def _here(
    checkers: Mapping[str, RowChecker], chunks: Iterator[Chunk]
) -> Iterator[tuple[Chunk, list[RowReport]]]:
    for split, rows in chunks:
        yield (split, rows), list(checkers[split].check(rows))


def _in_workers(job: Job, chunks: Iterator[Chunk], workers: int) -> Iterator[tuple[Chunk, list[RowReport]]]:
    """The same in processes. Only a few chunks are under way at a time, so memory does not grow with the rows."""
    context = fork_server(["gmpo_vl.preflight.job", "datasets"])  # imported once, not by every worker
    waiting: deque[tuple[Chunk, Future[list[RowReport]]]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_open, initargs=(job,)) as pool:

        def send(count: int) -> None:
            waiting.extend((chunk, pool.submit(_check, chunk)) for chunk in islice(chunks, count))

        send(workers * IN_FLIGHT)
        try:
            while waiting:
                chunk, future = waiting.popleft()
                reports = _result(future, chunk)
                send(1)
                yield chunk, reports
        finally:  # stopped in the middle: what no worker has begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[list[RowReport]], chunk: Chunk) -> list[RowReport]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        split, rows = chunk
        raise ChildProcessError(
            f"a worker died near rows {rows.start} to {rows.stop - 1} of {split}: a picture its decoder crashes on, or no "
            "memory left. `--workers 0` looks at the rows one by one in this process"
        ) from error


_checkers: dict[str, RowChecker] = {}  # of a worker process


def _open(job: Job) -> None:
    import signal

    import datasets
    import torch

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of a terminal; the first one ends them
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    _checkers.update(job.checkers())


def _check(chunk: Chunk) -> list[RowReport]:
    split, rows = chunk
    return list(_checkers[split].check(rows))
