"""Which installed packages the core and its extras bring, and a Python that sees no others."""

import os
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[2]


@cache
def project():
    """[project] of pyproject.toml, which the package's own metadata may lag behind in a checkout."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def asked_for(extra: str) -> list[Requirement]:
    """What the extra asks for itself and through our other extras; the core for ""."""
    lines = project()["optional-dependencies"][extra] if extra else project()["dependencies"]
    found = []
    for requirement in map(Requirement, lines):
        is_ours = canonicalize_name(requirement.name) == "gmpo-vl"
        found += [r for e in requirement.extras for r in asked_for(e)] if is_ours else [requirement]
    return found


def brought(*extras: str) -> set[str]:
    """The distributions that pip installs with gmpo-vl[extras], as far as they are installed here."""
    found = {"gmpo-vl"}
    todo = [r for extra in ("", *extras) for r in asked_for(extra)]
    while todo:
        one = todo.pop()
        for extra in ("", *one.extras):
            key = canonicalize_name(one.name) + f"[{extra}]" * bool(extra)
            if key not in found:
                found.add(key)
                todo += [
                    r for r in _requires(one.name) if r.marker is None or r.marker.evaluate({"extra": extra})
                ]
    return found


def _requires(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:  # pip does not need it on this platform, or the extra is not installed
        return []


def hidden(*extras: str) -> list[str]:
    """The modules that are installed here and do not come with gmpo-vl[extras]."""
    seen = brought(*extras)
    return sorted(
        module
        for module, names in packages_distributions().items()
        if seen.isdisjoint(map(canonicalize_name, names)) and module.isidentifier()
    )


def environment_with(folder: Path, *extras: str) -> dict[str, str]:
    """Variables for processes, and for those that they start, that see gmpo-vl[extras] alone. `folder` takes
    the file that hides the rest."""
    code = f"import sys\nsys.modules.update(dict.fromkeys({hidden(*extras)}))\n"
    (folder / "sitecustomize.py").write_text(code)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
