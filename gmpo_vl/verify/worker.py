"""A process that asks math-verify: `python -m gmpo_vl.verify.worker`. One JSON object a line in, one a line
out.

math-verify parses with a grammar of its own and simplifies with sympy, which can take for ever. So it lives
here, under a memory limit, where workers.py can kill it. The libraries are imported once, which takes
seconds; the questions are answered by a fork, and when that is killed another one stands in within
milliseconds.

In: `{"number": N, "gold": ..., "answer": ...}`; what is no such line is half a question, and left out. Out,
    for each new
fork: `{"ready": PID, "spent": true if the last one used up its time}`; for each question: `{"number": N,
    "correct": true}`
or `{"number": N, "error": "..."}`. When stdin ends, both processes end, whatever they are doing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

MEMORY_LIMIT = 3 << 30  # bytes of address space
# Seconds for one question, above workers.DEADLINE: for an answerer whose parent is gone or waits for longer.
CPU_LIMIT = 2.0

Equal = Callable[[str, str], bool]

_WARM_UP = [
    ("x+1", "1+x"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\left(\\begin{array}{c}1\\\\2\\end{array}\\right)"),
    ("y=2x", "2x=y"),
]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the parent does not mean us
    _limit_memory()
    equal = _math_verify()
    for gold, answer in _WARM_UP:  # the first use of each part of sympy takes up to a second
        equal(gold, answer)
    spent = False
    while True:
        child = os.fork()
        if child == 0:
            _answer(equal, spent)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):  # stdin has ended; who was killed did not exit
            return
        spent = os.WTERMSIG(status) == signal.SIGVTALRM


def _math_verify() -> Equal:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    @lru_cache(maxsize=1_000)  # a gold meets many answers
    def forms(text: str) -> list:
        return parse(_dollared(text), config, "no_fallback", "any_match", parsing_timeout=no_limit)

    # Their own limits run on while a process is stopped, and then take what they could not read for
    # different.
    no_limit: Any = None
    return lambda gold, answer: bool(verify(forms(gold), forms(answer), timeout_seconds=no_limit))


def _answer(equal: Equal, spent: bool) -> NoReturn:
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    _reply({"ready": os.getpid(), "spent": spent})
    last = 0
    while True:
        request = _question(requests.get())
        if request is None or request["number"] == last:  # asked again because the one before us died
            continue
        last = request["number"]
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)  # the kernel's: it ends even a long multiplication
        try:
            said: dict[str, Any] = {"correct": equal(request["gold"], request["answer"])}
        except Exception as error:  # whatever sympy runs into is this answer's outcome
            said = {"error": f"{type(error).__name__}: {error}"[:200]}
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        _reply({"number": last, **said})


def _question(line: str) -> dict[str, Any] | None:
    """None for what is left of a question that was cut off, or whose first part another one has read."""
    try:
        request = json.loads(line)
    except ValueError:
        return None
    return request if isinstance(request, dict) else None


def _dollared(text: str) -> str:
    return text if "$" in text else f"${text}$"


def _reply(message: dict) -> None:
    sys.stdout.write(
        f"\n{json.dumps(message)}\n"
    )  # the first newline ends what a killed one has begun to write
    sys.stdout.flush()


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a POSIX system: the parent's deadline is the only limit
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


if __name__ == "__main__":
    main()
