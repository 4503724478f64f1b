"""Games in processes of their own, which can be killed.

A process (worker.py) plays one game at a time. When the game is closed the process waits for the next one;
after `Isolation.games` of them it is ended, as some libraries leak. One that does not reply in time is
killed, and the episode ends with `info["error"]` and `info["late"]`; so it ends, without `late`, where the
process dies.

Requests have numbers, and only the reply with its number is read as a request's. Through the pipes go JSON
objects, pictures as PNG bytes in them (messages.py). Each process is a program of its own, so this works from
any thread, and steps of different games may be asked from several threads at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.guarded import broken
from gmpo_vl.environments.messages import from_example, to_observation, to_step
from gmpo_vl.processes import Lines, command_of, start_program
from gmpo_vl.types import Example

# The environment's name, its settings, and the sha256 of its file: a run plays one version of it.
Load = tuple[str, Mapping[str, Any], str]
_START = 600.0  # seconds for a process to import its libraries on a busy machine
_END = 5.0  # seconds for a killed process to be gone; it takes milliseconds


@dataclass(frozen=True)
class Isolation:
    """deadline: seconds for one reset or step.   games: that a process plays before another replaces it."""

    deadline: float = 60.0
    games: int = 100

    def __post_init__(self) -> None:
        if not self.deadline > 0 or self.games < 1:
            raise ValueError(
                f"an environment's isolation needs a deadline above 0 and a game at least: {self}"
            )


class NoReply(Exception):
    """A process was late, and killed, or has ended. The message says which."""

    def __init__(self, message: str, late: bool = False):
        super().__init__(message)
        self.late = late


class Process:
    """One worker program that has loaded the environment. `games`: how many it has begun."""

    def __init__(self, load: Load):
        self.games = 0
        self.ended = False
        self._number = 0
        self._program = start_program(command_of("gmpo_vl.environments.worker"), stderr=None)
        self._lines = Lines(self._program)
        if said := self.ask({"load": load}, _START)["said"]:
            self.stop()
            raise NoReply(said)

    def ask(self, request: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """The reply, within `deadline` seconds. Raises NoReply. The process is then ended, and so it is where
        this is interrupted.
        """
        if self.ended:
            raise NoReply("its process has ended")
        self._number = number = self._number + 1
        until = time.monotonic() + deadline
        try:
            self._lines.send({"number": number, **request}, until)
            while (reply := self._lines.receive(until)).get("number") != number:
                pass
            return reply
        except TimeoutError:
            self.stop()
            raise NoReply(f"no reply within {deadline:g} s: its process was killed", late=True) from None
        except (EOFError, BrokenPipeError):
            with suppress(subprocess.TimeoutExpired):
                self._program.wait(_END)  # for how it ended
            self.stop()
            raise NoReply(f"its process ended ({_how(self._program.returncode)})") from None
        except BaseException:  # an interrupt: nobody waits for what it does now
            self.stop()
            raise

    def has_ended(self) -> bool:
        return self.ended or self._program.poll() is not None

    def kill(self) -> None:
        """From any thread, whatever it is doing: who waits for it sees the end of its pipe."""
        if self._program.poll() is None:  # else its number may be another's
            with suppress(ProcessLookupError):
                os.killpg(self._program.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it, and let go of its pipes: for who asks it."""
        self.ended = True
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # the kernel ends it when its disk answers
            self._program.wait(_END)
        for pipe in (self._program.stdin, self._program.stdout):
            if pipe is not None:
                pipe.close()


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    return signal.Signals(-code).name


class Processes:
    """The processes of one environment: those that play, and those that wait for a game."""

    def __init__(self, load: Load, isolation: Isolation):
        self.isolation = isolation
        self._load = load
        self._forget()
        _every.add(self)

    def take(self) -> Process:
        """One for a new game. Raises NoReply where none starts."""
        process = None
        with self._lock:
            while self._waiting and (process is None or process.has_ended()):
                process = self._waiting.pop()
        if process is None or process.has_ended():
            process = Process(self._load)
            with self._lock:
                self._all.add(process)
        process.games += 1
        return process

    def give_back(self, process: Process) -> None:
        """Its game is closed."""
        with self._lock:
            again = not process.ended and process.games < self.isolation.games and process in self._all
            if again:
                self._waiting.append(process)
            else:
                self._all.discard(process)
        if not again:
            process.stop()

    def close(self) -> None:
        """End all of them. A game that is still played ends as one whose process died."""
        with self._lock:
            playing, waiting = self._all.difference(self._waiting), self._waiting
            self._all, self._waiting = set(), []
        for process in waiting:
            process.stop()
        for process in playing:
            process.kill()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._all: set[Process] = set()
        self._waiting: list[Process] = []


class Isolated:
    """A game in a process. It plays as the same environment in this one does."""

    def __init__(self, processes: Processes, example: Example):
        self._processes = processes
        self._example = example
        self._process: Process | None = None
        self._last = Observation("")
        self._broken: dict[str, Any] = {"error": "step was called before reset"}

    def reset(self, seed: int) -> Observation:
        self._last = Observation("")
        try:
            request: dict[str, Any] = {"reset": seed}
            if self._process is None or self._process.ended:
                self.close()
                self._process = self._processes.take()
                request["example"] = from_example(self._example)
            self._last, self._broken = to_observation(self._ask(request)), {}
        except NoReply as error:
            self._broken = {"error": str(error), "late": error.late}
        return self._last

    def step(self, answer: str) -> Step:
        if not self._broken:
            try:
                step = to_step(self._ask({"step": answer}))
                self._last = step.observation
                return step
            except NoReply as error:
                self._broken = {"error": str(error), "late": error.late}
        return broken(last=self._last, **self._broken)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(NoReply):
                process.ask({"close": True}, self._processes.isolation.deadline)
            self._processes.give_back(process)
        self._broken = {"error": "step was called after close"}

    def _ask(self, request: Mapping[str, Any]) -> Any:
        if self._process is None:
            raise NoReply("it has no process")
        return self._process.ask(request, self._processes.isolation.deadline)["said"]


_every: weakref.WeakSet[Processes] = weakref.WeakSet()


def _close_every() -> None:
    for processes in list(_every):
        processes.close()


def _forget_every() -> None:
    for processes in list(_every):
        processes._forget()


atexit.register(_close_every)
if hasattr(os, "register_at_fork"):  # a child never shares its parent's pipes
    os.register_at_fork(after_in_child=_forget_every)
