"""Rooms of gmpo_vl import what stands below them, never what stands above, and no module imports itself round
a circle.

`python tests/test_rooms.py [FOLDER]` counts lines, small files, upward imports and circles of any commit's
tree.
"""

from __future__ import annotations

import ast
import math
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the bottom up. A room, or a file of the package's own folder, imports from its own line and from lines
# before it.
ORDER = (
    "storage processes progress figures user_code",
    "types",
    "samples",
    "runs",
    "policy",
    "config",
    "report",
    "data",
    "verify",
    "rewards",
    "tasks",
    "environments",
    "batching",
    "models",
    "rollout",
    "setup",
    "sizing",
    "engines",
    "preflight",
    "plugins",
    "evaluation",
    "study",
    "demo",
    "cli",
    "__main__",
)
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms.split()}


def imports_of(root: Path) -> dict[str, set[str]]:
    """The modules of the package that each of them imports, wherever in the file."""
    paths = {".".join(p.relative_to(root).with_suffix("").parts): p for p in root.glob("gmpo_vl/**/*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}

    def nearest(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    found: dict[str, set[str]] = defaultdict(set)
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gmpo_vl":
                found[module] |= {nearest(f"{node.module}.{alias.name}") for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
                found[module] |= {nearest(n) for n in names if n.partition(".")[0] == "gmpo_vl"}
        found[module] -= {module}
    return dict(found)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward(imports: dict[str, set[str]]) -> list[str]:
    """Imports against the order, `a -> b`. The package itself, which has the version, is everybody's."""
    pairs = [(a, b) for a, names in imports.items() for b in names if room_of(a) and room_of(b)]
    return sorted(f"{a} -> {b}" for a, b in pairs if HEIGHT.get(room_of(a), -1) < HEIGHT.get(room_of(b), 99))


def in_circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names that can be reached from each other."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            new = edges.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    from_each = {name: reached(name) for name in edges}
    groups = {
        tuple(sorted(other for other in edges if name in from_each[other] and other in from_each[name]))
        for name in edges
        if name in from_each[name]
    }
    return sorted(map(list, groups))


def of_rooms(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = defaultdict(set)
    for module, names in imports.items():
        edges[room_of(module)] |= {room_of(name) for name in names} - {room_of(module), ""}
    return {room: names for room, names in edges.items() if room}


def test_every_room_has_its_height():
    rooms = {room_of(module) for module in imports_of(ROOT)} - {""}
    assert rooms <= set(HEIGHT)


def test_imports_go_down():
    assert upward(imports_of(ROOT)) == []


def test_nothing_imports_itself_round_a_circle():
    imports = imports_of(ROOT)
    assert in_circles(imports) == []
    assert in_circles(of_rooms(imports)) == []


def test_circles_and_upward_imports_are_found():
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]
    assert upward({"gmpo_vl.models.x": {"gmpo_vl.cli", "gmpo_vl.types"}}) == [
        "gmpo_vl.models.x -> gmpo_vl.cli"
    ]


def figures(root: Path) -> list[str]:
    """Lines count as if comments and docstrings were wrapped at 110, which older commits did not do."""
    texts = [path.read_text(encoding="utf-8").splitlines() for path in root.glob("gmpo_vl/**/*.py")]
    wrapped = sum(max(1, math.ceil(len(line) / 110)) for text in texts for line in text)
    imports = imports_of(root)
    return [
        f"lines               {sum(map(len, texts)):,} ({wrapped:,} wrapped at 110)",
        f"files               {len(texts)}, {sum(len(text) < 60 for text in texts)} of them under 60 lines",
        f"upward imports      {len(upward(imports))}",
        f"circles of rooms    {in_circles(of_rooms(imports)) or 'none'}",
        f"circles of modules  {in_circles(imports) or 'none'}",
    ]


if __name__ == "__main__":
    print("\n".join(figures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)))
