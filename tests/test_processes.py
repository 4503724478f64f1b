"""What lies in the working directory never runs because we start a process there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gmpo_vl
from gmpo_vl.verify.workers import Question, Worker

MODULES = """json pickle struct queue types signal socket selectors subprocess runpy tempfile multiprocessing
threading logging torch datasets numpy sympy math_verify psutil sitecustomize usercustomize mine""".split()

# Started in the hostile folder, as the console script is: without that folder on its own module path.
PROGRAM = """
import multiprocessing, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from gmpo_vl.processes import away_from_working_directory, command_of, fork_server

def task(number):
    import json, queue, selectors
    return number + 1

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "module":
        done = subprocess.run(command_of("gmpo_vl.cli", "--help"), capture_output=True, text=True, check=True)
        assert "usage" in done.stdout
    elif kind == "fork server":
        with ProcessPoolExecutor(1, fork_server(["gmpo_vl.runs", "json", "mine"])) as pool:
            assert pool.submit(task, 1).result() == 2
    elif kind == "spawn":
        with away_from_working_directory():
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            future = pool.submit(task, 1)
        with pool:
            assert future.result() == 2
    else:
        process = multiprocessing.get_context("spawn").Process(target=task, args=(1,))
        process.start()
        process.join()
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """The working directory: a module of each name, and a gmpo_vl, that say that they were imported."""
    folder = tmp_path / "hostile"
    (folder / "gmpo_vl" / "verify").mkdir(parents=True)
    (folder / "gmpo_vl" / "verify" / "__init__.py").touch()
    (folder / "gmpo_vl" / "cli").mkdir()
    files = [
        *(f"{name}.py" for name in MODULES),
        "gmpo_vl/__init__.py",
        "gmpo_vl/cli/__init__.py",
        "gmpo_vl/cli/__main__.py",
        "gmpo_vl/verify/worker.py",
    ]
    for name in files:
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    monkeypatch.chdir(folder)
    return folder


def what_ran(folder: Path) -> str:
    ran = folder.parent / "ran"
    return ran.read_text() if ran.exists() else ""


def run(program: Path, kind: str, path: str) -> None:
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, program, kind], check=kind != "unprotected", env=environment)


@pytest.mark.parametrize("kind", ["module", "fork server", "spawn"])
def test_no_way_of_starting_a_process_imports_from_the_working_directory(kind, hostile, tmp_path):
    run(tmp_path / "program.py", kind, str(Path(gmpo_vl.__file__).parents[1]))
    assert what_ran(hostile) == ""


def test_python_itself_does(hostile, tmp_path):
    run(tmp_path / "program.py", "unprotected", str(Path(gmpo_vl.__file__).parents[1]))
    assert "multiprocessing.py" in what_ran(hostile)


def test_a_verifier_worker_starts_in_a_hostile_folder(hostile):
    worker = Worker()
    assert worker.ask(Question("1/2", "0.5", 3600.0)) == "equal"
    worker.stop()
    assert what_ran(hostile) == ""


def test_what_pythonpath_names_is_found(hostile, tmp_path):
    """A folder of the user's own, also the working directory where it is named."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('my own')\n")
    run(tmp_path / "program.py", "fork server", f"{Path(gmpo_vl.__file__).parents[1]}:{own}")
    assert what_ran(hostile) == "my own"
