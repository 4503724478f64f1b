"""An environment from its name: a built-in's, `FILE.py:CLASS` or `PACKAGE.MODULE:CLASS`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmpo_vl.environments import Environment
from gmpo_vl.environments.guarded import Guarded
from gmpo_vl.environments.isolated import Isolated, Isolation, Processes
from gmpo_vl.environments.turns import load_turn_template
from gmpo_vl.storage.names import nearest_or_all
from gmpo_vl.types import Example
from gmpo_vl.user_code import check_options, function_in, module_from_file, module_from_import, no_exit, taken

BUILT_IN = {
    "alfworld": "gmpo_vl.environments.alfworld:AlfWorld",
    "gridworld": "gmpo_vl.environments.gridworld:GridWorld",
}


@dataclass(frozen=True)
class EnvironmentMaker:
    """A loaded environment. Called with a row it makes the row's game, whose reset and step never raise
    (guarded.py).

    template: jinja text of a turn (turns.py).   processes: where games are played in processes of their own.
    """

    name: str
    cls: Callable[..., Environment]
    settings: Mapping[str, Any]
    template: str
    processes: Processes | None = field(default=None, compare=False)

    def __call__(self, example: Example) -> Environment:
        if self.processes is not None:
            return Isolated(self.processes, example)
        return Guarded(lambda: self.cls(example, **self.settings), self.cls)

    def class_hash(self) -> str | None:
        """sha256 of the file of a class of one's own; None of a built-in, which is as the version says."""
        return class_hash(self.cls) if ":" in self.name else None

    def close(self) -> None:
        """End the processes; games that are still played in them end, too."""
        if self.processes is not None:
            self.processes.close()


def load_environment(
    name: str,
    settings: Mapping[str, Any] | None = None,
    template: str | None = None,
    isolate: bool | Isolation | None = None,
) -> EnvironmentMaker:
    """Load `alfworld` (a built-in), `FILE.py:CLASS` or `PACKAGE.MODULE:CLASS`; settings go to every game.

    template: of turns, a shipped one's name or a path, in place of the class's own.   isolate: each game in a
    process of its own; None: as the class says.
    Raises ValueError for an unknown name, a missing file or class, settings that the class does not take or
    that cannot be, and TemplateError for its template. A built-in raises ModuleNotFoundError where its
    settings ask for what is not installed.
    """
    cls, said = environment_class(name)
    options = dict(settings or {})
    check_options(cls, 1, options, said)
    with no_exit(said):
        if hasattr(cls, "check_settings"):
            cls.check_settings(**options)  # type: ignore[attr-defined]
        asked = _isolation(cls, options) if isolate is None else isolate
    if template is None:
        folder = Path(inspect.getfile(cls)).parent
        text = load_turn_template(getattr(cls, "template", "turn"), folder)
    else:
        text = load_turn_template(template)
    processes = None
    if asked:
        isolation = asked if isinstance(asked, Isolation) else Isolation()
        processes = Processes((_found_elsewhere(name), options, class_hash(cls)), isolation)
    return EnvironmentMaker(name, cls, options, text, processes)


def class_hash(cls: Callable[..., Environment]) -> str:
    """sha256 of the class's file as it is now."""
    return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()


def environment_class(name: str) -> tuple[Callable[..., Environment], str]:
    """The class, and how a message about it begins. ValueError where there is none."""
    if not isinstance(name, str):
        raise ValueError(
            f"an environment is named by a text, a built-in's name or FILE.py:CLASS, not {name!r:.80}"
        )
    said = f"environment {name!r}"
    path, colon, class_name = BUILT_IN.get(name, name).rpartition(":")
    if not colon:
        path, class_name = name, ""
    if path.endswith(".py"):
        module = module_from_file(Path(path), "environment", said)
    elif colon:
        module = module_from_import(path, said)
    else:
        raise ValueError(
            f"no environment is called {name!r}{nearest_or_all(name, BUILT_IN)} (one of your own is "
            "FILE.py:CLASS or PACKAGE.MODULE:CLASS)"
        )
    cls = function_in(module, class_name, said, "class")
    for method in ("reset", "step", "close"):
        if not callable(getattr(cls, method, None)):
            raise ValueError(f"{said}: the class has no {method}(); an environment has reset, step and close")
    return cls, said


def _isolation(cls: Callable[..., Environment], options: Mapping[str, Any]) -> bool | Isolation:
    asked = getattr(cls, "isolate", False)
    if callable(asked):
        asked = asked(**taken(asked, options))
    if not isinstance(asked, bool | Isolation):
        raise ValueError(f"{cls.__name__}.isolate is {asked!r}; it is true, false or an Isolation")
    return asked


def _found_elsewhere(name: str) -> str:
    """The name as another process finds it: a file's path from the root."""
    path, _, class_name = name.rpartition(":")
    return f"{Path(path).expanduser().absolute()}:{class_name}" if path.endswith(".py") else name
