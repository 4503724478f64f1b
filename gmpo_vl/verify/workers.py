"""Worker processes that can be killed, for what our own rules do not decide.

No signals and no fork of this process: workers are programs of their own, the deadline is kept here, by waiting on the
pipe. So it works from any thread, from a forked process and from a Ray actor, and a worker that is stuck is killed and
replaced before the next question.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

DEADLINE = 2.0  # seconds for one question
_START = 120.0  # seconds for a worker to import its libraries on a busy machine


class Worker:
    """One process, started at the first question and again after each that was late."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str, deadline: float = DEADLINE) -> str:
        """math-verify's verdict: `equal`, `different`, `error`, or `timeout` for a question that took too long."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        line = self._exchange({"gold": gold, "answer": answer}, deadline)
        if line is None:
            self.stop()
            return "timeout"
        message = json.loads(line)
        return "error" if "error" in message else "equal" if message["correct"] else "different"

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # unsent bytes of a killed process
                        pipe.close()

    def _start(self) -> None:
        self.stop()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gmpo_vl.verify.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if self._line(time.monotonic() + _START) is None:
            self.stop()
            raise RuntimeError(
                "a verifier worker did not start; run `python -m gmpo_vl.verify.worker` to see why (is math-verify installed?)"
            )

    def _exchange(self, request: dict, deadline: float) -> bytes | None:
        until = time.monotonic() + deadline
        try:
            _pipe(self.process, "stdin").write(json.dumps(request).encode() + b"\n")
            _pipe(self.process, "stdin").flush()
        except BrokenPipeError:  # it died since the last question
            return None
        return self._line(until)

    def _line(self, until: float) -> bytes | None:
        """One line of the worker, None when it ends or the time is over."""
        stdout, data = _pipe(self.process, "stdout").fileno(), b""
        while not data.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            chunk = os.read(stdout, 65536)
            if not chunk:
                return None
            data += chunk
        return data


def _pipe(process: subprocess.Popen[bytes] | None, name: str) -> IO[bytes]:
    pipe = getattr(process, name, None)
    if pipe is None:
        raise RuntimeError("the verifier worker is not running")
    return pipe


class Pool:
    """`size` workers that threads borrow."""

    def __init__(self, size: int) -> None:
        self.workers = [Worker() for _ in range(size)]
        self.free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.free.put(worker)

    def ask(self, pair: tuple[str, str]) -> str:
        worker = self.free.get()
        try:
            return worker.ask(*pair)
        finally:
            self.free.put(worker)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


_pools: dict[tuple[int, int], Pool] = {}
_lock = threading.Lock()


def _new_lock() -> None:
    """A fork can happen while another thread holds the lock; the child has no such thread."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def ask_math_verify(pairs: Sequence[tuple[str, str]], workers: int = 1) -> list[str]:
    """math-verify's outcome for each (gold, answer), in order; the workers stay for the next call."""
    if not pairs:
        return []
    pool = _pool(max(1, workers))
    if len(pairs) == 1:
        return [pool.ask(pairs[0])]
    with ThreadPoolExecutor(len(pool.workers)) as threads:
        return list(threads.map(pool.ask, pairs))


def _pool(size: int) -> Pool:
    """This process's pool of that size: a forked child never shares its parent's pipes."""
    with _lock:
        key = (os.getpid(), size)
        if key not in _pools:
            _pools[key] = Pool(size)
        return _pools[key]


def stop_workers() -> None:
    """End the workers of this process; the next question starts new ones."""
    with _lock:
        for key in [key for key in _pools if key[0] == os.getpid()]:
            _pools.pop(key).stop()


atexit.register(stop_workers)
