"""A user's own function or class, from a file (`path.py:name`): for rewards, objectives and environments.

Only the named file is run. A module that happens to lie in the working directory is not.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from gmpo_vl.storage.names import closest, nearest_or_all

# How a user's code may fail. `sys.exit()` is one: it would end the run without a word. Ctrl-C is none.
FAILURES = (Exception, SystemExit)


def failure(error: BaseException) -> str:
    """`KeyError: 'a'`; the name alone where there is no message."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def failure_in(file: str, error: BaseException) -> str:
    """`KeyError: 'a' (maze.py, line 42)`: with the innermost line of the file that led to it, if one did."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{failure(error)} ({Path(file).name}, line {lines[-1]})" if lines else failure(error)


@contextmanager
def no_exit(said: str) -> Iterator[None]:
    """ValueError where the block calls `sys.exit()`; what else it raises goes on as it is."""
    try:
        yield
    except SystemExit as error:
        raise ValueError(f"{said}: it called sys.exit({error.code!r})") from error


def module_from_file(path: Path, kind: str, said: str) -> ModuleType:
    """The module that a file is, run anew and under a name of its own: no bytecode is read or left behind.

    kind: what it holds, for the module's name. said: how a message begins. ValueError where it cannot be.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{said}: there is no file {path} (seen from {Path.cwd()})")
    module = ModuleType(f"{kind}_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        with _nothing_from_here():
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except (SyntaxError, ImportError) as error:
        raise ValueError(f"{said}: the file cannot be loaded: {error}") from error
    except FAILURES as error:
        where = f"{line_in(module, error)} raised {failure(error)}"
        raise ValueError(f"{said}: the file cannot be loaded: {where}") from error
    return module


def module_from_import(name: str, said: str) -> ModuleType:
    """An installed module, or one that PYTHONPATH names. ValueError where it cannot be imported."""
    try:
        with _nothing_from_here():
            return importlib.import_module(name)
    except FAILURES as error:
        raise ValueError(
            f"{said}: {name} cannot be imported: {failure(error)} (the working directory is "
            "not searched: write the file's path, or name its folder in PYTHONPATH)"
        ) from error


@contextmanager
def _nothing_from_here() -> Iterator[None]:
    """No import looks into the working directory, where `python -m` begins to look, unless PYTHONPATH names
    it."""
    named = {os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    here = os.getcwd()
    hidden = [path for path in sys.path if os.path.abspath(path) == here and here not in named]
    sys.path[:] = [path for path in sys.path if path not in hidden]
    try:
        yield  # what the user's code adds to the path stays there
    finally:
        sys.path[:0] = hidden


def function_in(
    module: ModuleType, name: str, said: str, kind: Literal["function", "class"] = "function"
) -> Callable[..., Any]:
    """The module's function, or class, of this name. ValueError names those it has where there is none."""
    found = getattr(module, name, None)
    if inspect.isclass(found) or (callable(found) and kind == "function"):
        return found
    is_one = inspect.isfunction if kind == "function" else inspect.isclass
    public = {key: value for key, value in vars(module).items() if is_one(value) and key[0] != "_"}
    own = [key for key, value in public.items() if value.__module__ == module.__name__] or list(public)
    file = getattr(module, "__file__", module.__name__)
    asked = f"{file} has no {kind} {name!r}" if name else f"name a {kind} of {file}, as FILE.py:NAME"
    raise ValueError(f"{said}: {asked}{nearest_or_all(name, own) if own else '; it has none'}")


def line_in(module: ModuleType, error: BaseException) -> str:
    """`FILE, line N`: the innermost line of the module's file that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if frame.filename == module.__file__] or frames
    return f"{mine[-1].filename}, line {mine[-1].lineno}"


def check_options(
    function: Callable[..., Any], given: int, options: Iterable[str], said: str, but: Iterable[str] = ()
) -> None:
    """ValueError where the function does not take an option, or needs one that is not there.

    given: how many arguments come before the options. but: parameters that are no options.
    """
    parameters = list(inspect.signature(function).parameters.values())
    options = list(options)
    named = [
        p
        for p in parameters[given:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in but
    ]
    known = [p.name for p in named]
    unknown = [key for key in options if key not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        meant = [close for key in unknown if (close := closest(key, known, cutoff=0.5))]
        near = f"; did you mean {', '.join(meant)}?" if meant else ""
        raise ValueError(f"{said} takes {known or 'no settings'}, not {unknown}{near}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in options]
    if missing:
        raise ValueError(f"{said} needs {missing}, which have no default")


def taken(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the function has a parameter for."""
    parameters = inspect.signature(function).parameters
    return {key: value for key, value in values.items() if key in parameters}
