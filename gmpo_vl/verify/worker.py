"""A process that asks math-verify: `python -m gmpo_vl.verify.worker`. One JSON object a line in, one a line out.

math-verify parses with a grammar of its own and simplifies with sympy, which can take for ever. So it lives here, under
a memory limit, where workers.py can kill it. In: `{"gold": ..., "answer": ...}`. Out: `{"correct": true}` or
`{"error": "..."}`. When stdin ends, the process ends, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading

MEMORY_LIMIT = 3 << 30  # bytes of address space

_WARM_UP = [
    ("x+1", "1+x"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\left(\\begin{array}{c}1\\\\2\\end{array}\\right)"),
    ("y=2x", "2x=y"),
]


def main() -> None:
    _limit_memory()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    def equal(gold: str, answer: str) -> bool:
        forms = [
            parse(_dollared(t), config, "no_fallback", "any_match", parsing_timeout=2) for t in (gold, answer)
        ]
        return bool(verify(forms[0], forms[1], timeout_seconds=2))

    for gold, answer in _WARM_UP:  # the first use of each part of sympy takes up to a second
        equal(gold, answer)
    _reply({"ready": True})
    while True:
        request = json.loads(requests.get())
        try:
            _reply({"correct": equal(request["gold"], request["answer"])})
        except (
            Exception,
            RecursionError,
            MemoryError,
        ) as error:  # whatever sympy runs into is this answer's outcome
            _reply({"error": f"{type(error).__name__}: {error}"[:200]})


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
