"""The wheel holds every file that the package reads, and works in an empty environment elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_every_module_and_every_file_that_the_package_reads(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "gmpo_vl", source / "gmpo_vl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1])
    held = set(wheel.namelist())
    files = [p.relative_to(source) for p in (source / "gmpo_vl").rglob("*") if p.is_file()]
    read = [path.as_posix() for path in files if path.suffix != ".md"]  # those are for people in a checkout
    assert not set(read) - held
    assert any(path.endswith(".safetensors") for path in read)
    [entry_points] = [name for name in held if name.endswith("entry_points.txt")]
    assert "gmpo-vl = gmpo_vl.cli:main" in wheel.read(entry_points).decode()


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_repository(tmp_path):
    """Takes an index and minutes: torch and all that training needs, as constraints/cpu.txt has them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    venv.create(tmp_path / "environment", with_pip=True)
    programs = tmp_path / "environment/bin"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(program: str, *arguments: object) -> str:
        command = [programs / program, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=outside)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    constraints = ["-c", ROOT / "constraints/cpu.txt"]
    run("pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT)
    run("pip", "install", "-q", *constraints, "torch==2.13.0")
    run("pip", "install", "-q", *constraints, f"{next(tmp_path.glob('*.whl'))}[train]")
    assert "usage: gmpo-vl" in run("python", "-m", "gmpo_vl", "--help")
    assert "usage: gmpo-vl eval" in run("gmpo-vl", "eval", "--help")
    (outside / "answers.jsonl").write_text('{"gold": "42", "response": "so \\\\boxed{42}"}\n')
    run("gmpo-vl", "grade", "answers.jsonl", "--out", "verdicts.jsonl")
    assert json.loads((outside / "verdicts.jsonl").read_text())["correct"] is True
    run("gmpo-vl", "demo", "--test-problems", 28, "trainer.max_steps=1", "data.rollout_batch_size=16")
    assert (outside / "runs/demo/report.html").is_file()
