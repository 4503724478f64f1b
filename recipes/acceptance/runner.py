"""A check in a process of its own: what it computes, or that it failed, hung or died, becomes one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gmpo_vl.processes import fork_server
from gmpo_vl.storage.files import write_json
from gmpo_vl.study.runner import exit_in_words

if TYPE_CHECKING:  # a check's process imports what it needs
    import torch

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Ray's
# On a CPU imported once, in a server that the checks' processes are forked from. With a GPU nothing is:
# whichever library looks for one there would leave it unusable for all of them.
PRELOADED = ["acceptance.kernels", "acceptance.training", "acceptance.commands"]


@dataclass(frozen=True)
class Place:
    """Where checks run. out: the folder of what they print and leave behind.

    core: models are small enough for six minutes.
    """

    out: Path
    cuda: bool
    core: bool = True

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if self.cuda else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if self.cuda else torch.float32

    @property
    def work(self) -> Path:
        """The folder of models and runs, which goes when all is done."""
        return self.out / "work"

    def free_memory(self) -> float:
        """Bytes of the GPU that are free; 0 on a CPU.

        Asked by the checks' processes: it takes some itself.
        """
        import torch

        return float(torch.cuda.mem_get_info()[0]) if self.cuda else 0.0


@dataclass(frozen=True)
class Outcome:
    """An entry of the page. said: the figure, or why not; may have several lines.

    figures: the same for a program.
    """

    verdict: Literal["PASS", "FAIL", "SKIPPED"]
    said: str
    figures: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0


def judged(said: str, rules: dict[str, bool], **figures: float | str) -> Outcome:
    """PASS where every rule holds; else FAIL, naming those that do not."""
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        return Outcome("FAIL", f"not so: {', '.join(broken)}\n{said}", figures)
    return Outcome("PASS", said, figures)


@dataclass(frozen=True)
class Check:
    """limit: seconds. needs: packages, without which the check is SKIPPED. after: the check whose result this
    one goes on from.
    cuda: it needs a GPU."""

    name: str
    run: Callable[[Place], Outcome]
    limit: float
    needs: tuple[str, ...] = ()
    after: str | None = None
    cuda: bool = False


def run_all(
    checks: tuple[Check, ...], place: Place, tell: Callable[[str, Outcome], None]
) -> dict[str, Outcome]:
    """The outcome of every check, by name; told as soon as it is there. None stops the others."""
    place.work.mkdir(parents=True, exist_ok=True)
    (place.out / "logs").mkdir(exist_ok=True)
    fork_server([] if place.cuda else PRELOADED)
    found: dict[str, Outcome] = {}
    for check in checks:
        obstacle = _obstacle(check, place, found)
        found[check.name] = Outcome("SKIPPED", obstacle) if obstacle else run_check(check, place)
        tell(check.name, found[check.name])
    return found


def _obstacle(check: Check, place: Place, found: dict[str, Outcome]) -> str | None:
    """Why the check cannot be run here."""
    if check.cuda and not place.cuda:
        return "no GPU here"
    missing = [name for name in check.needs if find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    before = None if check.after is None else found[check.after]
    if before is not None and before.verdict != "PASS":
        return f"it goes on from '{check.after}', which is {before.verdict}"
    return None


def run_check(check: Check, place: Place) -> Outcome:
    """The check in a process of its own, which has ended, with all that it started, when this returns."""
    log, result = log_of(check.name, place), log_of(check.name, place).with_suffix(".json")
    result.unlink(missing_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=_child, args=(check, place, log, result)
    )
    began = time.monotonic()
    process.start()
    assert process.pid is not None
    try:
        process.join(check.limit)
        code = process.exitcode
    finally:
        with suppress(ProcessLookupError):  # its group: the commands that it runs, too
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    seconds = round(time.monotonic() - began, 1)
    if code is None:
        return Outcome("FAIL", f"not done after {check.limit:g} s: ended; {_last_line(log)}", seconds=seconds)
    if not result.exists():
        said = f"its process died, {exit_in_words(code)}; {_last_line(log)}"
        return Outcome("FAIL", said, seconds=seconds)
    return replace(Outcome(**json.loads(result.read_text(encoding="utf-8"))), seconds=seconds)


def log_of(name: str, place: Place) -> Path:
    """The file of what a check printed."""
    return place.out / "logs" / f"{''.join(c if c.isalnum() else '_' for c in name)}.log"


def _child(check: Check, place: Place, log: Path, result: Path) -> None:
    os.setsid()  # a group of its own
    with open(log, "w", encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    try:
        outcome = check.run(place)
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().partition("\n")[0]
        outcome = Outcome("FAIL", f"{type(error).__name__}: {reason}")
    write_json(result, asdict(outcome))


def _last_line(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    said = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    return f"last said: {said[-1][:200]}" if said else "it said nothing"
