"""Each run of a study in its own process: a crash or a kill costs one run, and the command goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Event, Lock
from typing import Any

from gmpo_vl.processes import fork_server
from gmpo_vl.runs import StudyFolder
from gmpo_vl.storage.locks import IN_USE, FolderInUse, locked

ERROR_LINES = 12  # of a failed run's log, kept as its error
POLL = 0.2  # seconds
# Imported once, in a server that the runs are forked from: importing takes longer than a short run. The
# server computes nothing, so it has no threads.
PRELOADED = ["gmpo_vl.engines.local.engine", "datasets"]
ASKED_TO_STOP = (128 + signal.SIGTERM, -signal.SIGTERM)  # the second: before the run could take the signal

Command = Callable[[list[str]], int]  # runs `gmpo-vl ARGUMENTS` in this process; importable by name


@dataclass(frozen=True)
class Runner:
    """Runs `gmpo-vl` into a study's folder, `workers` at once. tell: gets a line for each that ended."""

    folder: StudyFolder
    workers: int
    tell: Callable[[str], None]
    command: Command
    stopping: Event = field(default_factory=Event)

    def run(self, runs: Mapping[str, Sequence[str]]) -> list[str]:
        """Run {name: arguments} where it has not ended well yet. Returns the names of those that failed.

        Asked to stop (Ctrl-C, SIGTERM) it asks the runs to save and stop, waits for them, and raises
        KeyboardInterrupt. A run whose study was killed goes on by itself; whoever wants it next waits for it.
        """
        todo = [name for name in runs if not self._ended_well(name)]
        done = len(runs) - len(todo)
        # Cores shared out among the runs, unless the number of threads is set.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.workers)))
        fork_server(PRELOADED)
        with ThreadPoolExecutor(self.workers) as pool, _sigterm_as_interrupt():
            futures = {pool.submit(self._run, name, runs[name]): name for name in todo}
            try:
                for future in as_completed(futures):
                    done += 1
                    self.tell(f"{done}/{len(runs)} {futures[future]}: {_in_words(future.result())}")
            except BaseException:
                self.stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [name for name in runs if not self._ended_well(name)]

    def _ended_well(self, name: str) -> bool:
        ending = self.folder.ending(name)
        return ending is not None and ending["exit"] == 0

    def _run(self, name: str, arguments: Sequence[str]) -> dict[str, Any] | None:
        """One run in a process; how it ended is written down. None where it was asked to stop."""
        log, began = self.folder.log_file(name), 0.0
        code: int | None = IN_USE
        while code == IN_USE:  # also where another study's process was quicker
            self._wait_for_others(name)
            if self._ended_well(name):  # whoever held the lock has done it
                return self.folder.ending(name)
            began = time.perf_counter()
            code = None if self.stopping.is_set() else self._in_process(arguments, log)
        if code is None or code in ASKED_TO_STOP:
            return None
        ending = {
            "exit": code,
            "error": None if code == 0 else _last_lines(log),
            "seconds": round(time.perf_counter() - began, 1),
            "versions": {name: version(name) for name in ("gmpo-vl", "torch", "transformers")},
        }
        self.folder.write_ending(name, ending)
        return ending

    def _wait_for_others(self, name: str) -> None:
        """Until nobody works in the run's folder, or this study is asked to stop."""
        told = False
        while not self.stopping.is_set():
            try:
                with locked(self.folder.run(name).folder):
                    return
            except FolderInUse:
                if not told:
                    self.tell(f"waiting for {name}")
                told = True
                time.sleep(POLL)

    def _in_process(self, arguments: Sequence[str], log: Path) -> int:
        """`gmpo-vl ARGUMENTS` to its end, or until it has stopped as asked. Returns its exit code."""
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_child, args=(self.command, list(arguments), str(log)))
        with _processes:
            process.start()
        asked = False
        while True:
            with _processes:
                code = process.exitcode
            if code is not None:
                return code
            if self.stopping.is_set() and not asked:
                process.terminate()
                asked = True
            time.sleep(POLL)


# multiprocessing reads every child's exit code when it starts one. Two threads must not do that at once.
_processes = Lock()


def _child(command: Command, arguments: list[str], log: str) -> None:
    """The run has a session of its own: Ctrl-C reaches the study alone, which sends SIGTERM once.

    It holds the lock on its folder as every run does, whatever becomes of the study.
    """
    os.setsid()
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ gmpo-vl {' '.join(arguments)}\n")
        file.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.exit(command(arguments))


def _in_words(ending: dict[str, Any] | None) -> str:
    if ending is None:
        return "stopped; the same command goes on with it"
    if ending["exit"] == 0:
        return f"{ending['seconds']:.0f} s"
    return f"FAILED, {exit_in_words(ending['exit'])}: {ending['error'].splitlines()[-1]}"


def exit_in_words(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(lines[-ERROR_LINES:])


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
