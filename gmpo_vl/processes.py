"""Python processes that import nothing from the working directory.

`python -m` and `python -c` look for modules in the working directory first, and multiprocessing starts its
processes with `-c`: a `json.py` that lies there would run. What PYTHONPATH names stays where it is.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

import gmpo_vl

# `python -m` with this process's gmpo_vl. (From Python 3.11, `-P` leaves out the working directory.)
_RUN_MODULE = """
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import importlib.util, runpy
_, package, module, *sys.argv[1:] = sys.argv
spec = importlib.util.spec_from_file_location("gmpo_vl", package)
sys.modules["gmpo_vl"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["gmpo_vl"])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def command_of(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules: `python -m MODULE`, without the working directory."""
    return [sys.executable, "-c", _RUN_MODULE, str(gmpo_vl.__file__), module, *arguments]


@contextmanager
def away_from_working_directory() -> Iterator[None]:
    """Processes that multiprocessing starts inside find the standard library in place of the working
    directory.

    So do its own helpers, which it starts with the first queue or pool. A spawned process stays there; one
    that needs the working directory must be told and go there itself. This whole process is elsewhere
    meanwhile: do nothing else inside, and use no relative path in another thread.
    """
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(os.path.dirname(os.__file__))
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def fork_server(preload: Sequence[str]) -> BaseContext:
    """A context whose processes are forked from a server that has imported the modules `preload`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with away_from_working_directory():
        forkserver.ensure_running()
    return context
