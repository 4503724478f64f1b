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
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, NamedTuple

MAX_DECIDED = 50_000  # questions
DEADLINE = 1.8  # seconds for one answer
_REPLACED = 5.0  # seconds for another answerer to stand in; it takes milliseconds
_START = 120.0  # seconds for a worker to import its libraries on a busy machine


class Question(NamedTuple):
    gold: str
    answer: str
    deadline: float = DEADLINE


class Worker:
    """One worker program, started at the first question. Who answers in it is replaced after each question that was late."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.answerer = 0  # process id
        self._unread = b""

    def ask(self, question: Question) -> str:
        """math-verify's verdict: `equal`, `different`, `error`, or `timeout` for a question that took too long."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        line = self._exchange(question)
        if line is None:
            self._replace()
            return "timeout"
        message = json.loads(line)
        return "error" if "error" in message else "equal" if message["correct"] else "different"

    def stop(self) -> None:
        process, self.process, self._unread = self.process, None, b""
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
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
            start_new_session=True,  # a group of its own, killed together
        )
        if not self._ready(_START):
            self.stop()
            raise RuntimeError(
                "a verifier worker did not start; run `python -m gmpo_vl.verify.worker` to see why (is math-verify installed?)"
            )

    def _replace(self) -> None:
        """Kill who answers, and wait for the next one; what it may still have said is not read as an answer."""
        with suppress(ProcessLookupError):
            os.kill(self.answerer, signal.SIGKILL)
        if not self._ready(_REPLACED):
            self.stop()

    def _ready(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (line := self._line(until)) is not None:
            with suppress(ValueError):  # half a line of a killed one
                message = json.loads(line)
                if "ready" in message:
                    self.answerer = message["ready"]
                    return True
        return False

    def _exchange(self, question: Question) -> bytes | None:
        until = time.monotonic() + question.deadline
        request = {"gold": question.gold, "answer": question.answer}
        try:
            _pipe(self.process, "stdin").write(json.dumps(request).encode() + b"\n")
            _pipe(self.process, "stdin").flush()
        except BrokenPipeError:  # it died since the last question
            return None
        return self._line(until)

    def _line(self, until: float) -> bytes | None:
        """The worker's next line that is not empty, None when it ends or the time is over."""
        stdout = _pipe(self.process, "stdout").fileno()
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                if line:
                    return line
                continue
            left = until - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            chunk = os.read(stdout, 65536)
            if not chunk:
                return None
            self._unread += chunk


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

    def ask(self, question: Question) -> str:
        worker = self.free.get()
        try:
            return worker.ask(question)
        finally:
            self.free.put(worker)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


_pools: dict[tuple[int, int], Pool] = {}
_decided: dict[tuple[str, str], str] = {}
_late: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


def _new_lock() -> None:
    """A fork can happen while another thread holds the lock; the child has no such thread."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def ask_math_verify(questions: Sequence[Question], workers: int = 1) -> list[str]:
    """math-verify's outcome for each question, in order; the workers stay for the next call.

    A pair is asked once: decisions are remembered, and so are those that were late twice; errors are not.
    """
    pairs = [question[:2] for question in questions]
    said = {pair: known for pair in pairs if (known := _known(pair))}
    new = [question for pair, question in dict(zip(pairs, questions)).items() if pair not in said]
    if len(new) == 1:
        replies = [_pool(max(1, workers)).ask(new[0])]
    elif new:
        pool = _pool(max(1, workers))
        with ThreadPoolExecutor(len(pool.workers)) as threads:
            replies = list(threads.map(pool.ask, new))
    else:
        replies = []
    said.update(zip((question[:2] for question in new), replies))
    if len(_decided) + len(_late) + len(new) > MAX_DECIDED:
        _decided.clear()
        _late.clear()
    _decided.update({pair: reply for pair, reply in said.items() if reply in ("equal", "different")})
    _late.update(question[:2] for question in new if said[question[:2]] == "timeout")
    return [said[pair] for pair in pairs]


def _known(pair: tuple[str, str]) -> str | None:
    return _decided.get(pair) or ("timeout" if _late[pair] > 1 else None)


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
