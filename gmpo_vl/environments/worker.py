"""A process that plays one game after the other: `python -m gmpo_vl.environments.worker`. One JSON object a
line in, one a line out (isolated.py asks).

In, each with a `number`: `{"load": [NAME, SETTINGS, SHA256]}` first; `{"reset": SEED, "example": ROW}` for a
new game, without a row for the same one again; `{"step": ANSWER}`; `{"close": true}`. Out: the `number` and
what was `said`, of the first why it cannot be loaded. What the environment prints goes to stderr. When stdin
ends, so does the process, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

from gmpo_vl.environments import Environment
from gmpo_vl.environments.guarded import Guarded
from gmpo_vl.environments.loading import class_hash, environment_class
from gmpo_vl.environments.messages import from_observation, from_step, to_example


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the parent does not mean us
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    player = _Player()
    while True:
        try:
            request = json.loads(requests.get())
        except ValueError:  # what is left of one that was cut off
            continue
        reply = {"number": request["number"], "said": player.said(request)}
        replies.write(f"\n{json.dumps(reply)}\n")
        replies.flush()


class _Player:
    """The environment that was loaded, and the game that is played."""

    def __init__(self) -> None:
        self._cls: Any = None
        self._settings: dict[str, Any] = {}
        self._game = Guarded(self._none, Environment)

    def said(self, request: dict[str, Any]) -> Any:
        if "load" in request:
            name, self._settings, digest = request["load"]
            try:
                self._cls, _ = environment_class(name)
            except ValueError as error:
                return str(error)
            if class_hash(self._cls) != digest:
                return f"{name} changed while its games are played: begin anew for its new version"
        elif "reset" in request:
            if "example" in request:
                example = to_example(request["example"])
                self._game = Guarded(lambda: self._cls(example, **self._settings), self._cls)
            return from_observation(self._game.reset(request["reset"]))
        elif "step" in request:
            return from_step(self._game.step(request["step"]))
        else:
            self._game.close()
        return None

    def _none(self) -> Any:
        raise RuntimeError("no game was asked for")


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
