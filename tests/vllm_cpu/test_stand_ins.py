"""What stands in for vLLM in the tests of tests/easyr1 has its names, parameters and defaults."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm.v1", reason="vLLM is not installed: make test-vllm EASYR1_HOME=FOLDER")

STAND_INS = Path(__file__).parents[1] / "easyr1" / "stand_ins"
FILES = sorted((STAND_INS / "vllm").rglob("*.py"))


def name_of(path: Path) -> str:
    """The module that a file stands in for."""
    parts = path.relative_to(STAND_INS).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"stand_in_of_{name_of(path).replace('.', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def faults(stand_in, real, name) -> list[str]:
    """Parameters that the real thing does not have, or whose default is another."""
    theirs = inspect.signature(real).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in theirs.values())
    found = []
    for parameter in inspect.signature(stand_in).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.name not in theirs:
            found += [] if takes_all else [f"{name}({parameter.name})"]
        elif parameter.default is not parameter.empty and parameter.default != theirs[parameter.name].default:
            found.append(f"{name}({parameter.name}={theirs[parameter.name].default!r})")
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_stand_in_has_the_real_signatures(path):
    mine, real = load(path), importlib.import_module(name_of(path))
    found = []
    own = {
        name: thing
        for name, thing in vars(mine).items()
        if getattr(thing, "__module__", None) == mine.__name__ and not name.startswith("_")
    }
    for name, thing in own.items():
        assert hasattr(real, name), f"{name_of(path)} has no {name}"
        found += faults(thing, getattr(real, name), name)
        if inspect.isclass(thing):
            methods = {
                n: m for n, m in vars(thing).items() if inspect.isfunction(m) and not n.startswith("_")
            }
            for method, function in methods.items():
                assert hasattr(getattr(real, name), method), f"{name} has no {method}"
                found += faults(function, getattr(getattr(real, name), method), f"{name}.{method}")
    assert not found


def test_a_wrong_stand_in_is_found():
    def stand_in(prompts, n=2, seed=0): ...

    def real(prompts, n=1, *, other=3): ...

    assert faults(stand_in, real, "f") == ["f(n=1)", "f(seed)"]
    assert not faults(real, real, "f")
