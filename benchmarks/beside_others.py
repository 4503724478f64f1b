"""Does gmpo-vl install beside other projects without changing a version of theirs?

    python benchmarks/beside_others.py            each project resolved anew, without and with gmpo-vl
    python benchmarks/beside_others.py PYTHON ... what pip would change in these environments

For the core and for the extra `verify`. Nothing is installed (`pip install --dry-run`). It needs an index,
and minutes. The exit code is 1 where a version would change, or pip finds none that fit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
OURS = ("gmpo-vl", "gmpo-vl[verify]")
OTHERS = ("verl==0.9.1", "trl==1.16.0", "ms-swift==4.6.0", "lmms-eval", "transformers==4.40.0")


def main() -> int:
    with TemporaryDirectory() as folder:
        pip(sys.executable, "wheel", "-q", "--no-deps", "-w", folder, str(ROOT))
        [wheel] = Path(folder).glob("*.whl")
        if environments := sys.argv[1:]:
            changed = [beside_installed(python, wheel) for python in environments]
        else:
            changed = [beside_resolved(other, wheel) for other in OTHERS]
    return 1 if any(changed) else 0


def beside_installed(python: str, wheel: Path) -> bool:
    """Tell what an environment would get. Whether a version of it changes."""
    listed = json.loads(pip(python, "list", "--format", "json"))
    before = {normal(one["name"]): one["version"] for one in listed}
    return any([told(python, ours, before, resolved(python, named(wheel, ours))) for ours in OURS])


def beside_resolved(other: str, wheel: Path) -> bool:
    """Tell what another project's requirements resolve to without ours and with them."""
    before = resolved(sys.executable, other, "--ignore-installed")
    found = (resolved(sys.executable, other, named(wheel, ours), "--ignore-installed") for ours in OURS)
    return any([told(other, ours, before, after) for ours, after in zip(OURS, found)])


def told(place: str, ours: str, before: dict[str, str], after: dict[str, str]) -> bool:
    changes = [f"{name} {before[name]} -> {v}" for name, v in after.items() if before.get(name, v) != v]
    added = [f"{name} {version}" for name, version in after.items() if name not in before]
    print(f"{ours} beside {place} ({len(before)} packages)")
    print(
        f"    changed  {', '.join(changes) or 'nothing'}\n    added    {', '.join(added) or 'nothing'}",
        flush=True,
    )
    return bool(changes)


def resolved(python: str, *arguments: str) -> dict[str, str]:
    """What pip would install, {name: version}, gmpo-vl left out."""
    report = json.loads(pip(python, "install", "-q", "--dry-run", "--report", "-", *arguments))
    found = {normal(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}
    found.pop("gmpo-vl", None)
    return found


def named(wheel: Path, ours: str) -> str:
    return f"{ours} @ {wheel.as_uri()}"


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def pip(python: str, *arguments: str) -> str:
    """Its output. pip's own words are on the terminal; ends where it fails."""
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"pip failed: {' '.join(arguments)}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
