"""A process that asks math-verify: `python -m gmpo_vl.verify.worker`. One JSON object a line in, one a line out.

math-verify parses with a grammar of its own and simplifies with sympy, which can take for ever. So it lives here, under
a memory limit, where workers.py can kill it. The libraries are imported once, which takes seconds; the questions are
answered by a fork, and when that is killed another one stands in within milliseconds.

In: `{"gold": ..., "answer": ...}`. Out: `{"ready": PID}` of each new fork, then `{"correct": true}` or `{"error": "..."}`.
When stdin ends, both processes end, whatever they are doing.
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
from typing import NoReturn

MEMORY_LIMIT = 3 << 30  # bytes of address space
CPU_LIMIT = 10.0  # seconds for one question: only an answerer whose parent is gone gets there

Equal = Callable[[str, str], bool]

_WARM_UP = [
    ("x+1", "1+x"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\left(\\begin{array}{c}1\\\\2\\end{array}\\right)"),
    ("y=2x", "2x=y"),
]


def main() -> None:
    _limit_memory()
    equal = _math_verify()
    for gold, answer in _WARM_UP:  # the first use of each part of sympy takes up to a second
        equal(gold, answer)
    while True:
        child = os.fork()
        if child == 0:
            _answer(equal)
        if os.WIFEXITED(os.waitpid(child, 0)[1]):  # stdin has ended; who was killed did not exit
            return


def _math_verify() -> Equal:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    @lru_cache(maxsize=1_000)  # a gold meets many answers
    def forms(text: str) -> list:
        return parse(_dollared(text), config, "no_fallback", "any_match", parsing_timeout=2)

    return lambda gold, answer: bool(verify(forms(gold), forms(answer), timeout_seconds=2))


def _answer(equal: Equal) -> NoReturn:
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    sys.stdout.write("\n")  # ends what a killed one may have begun to write
    _reply({"ready": os.getpid()})
    while True:
        request = json.loads(requests.get())
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)  # the kernel's: it ends even a long multiplication
        try:
            _reply({"correct": equal(request["gold"], request["answer"])})
        except (
            Exception,
            RecursionError,
            MemoryError,
        ) as error:  # whatever sympy runs into is this answer's outcome
            _reply({"error": f"{type(error).__name__}: {error}"[:200]})
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _dollared(text: str) -> str:
    return text if "$" in text else f"${text}$"


def _reply(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
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
