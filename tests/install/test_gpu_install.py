"""What a GPU machine installs: the constraints, the extra and the Dockerfile fit together."""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest
from installed import asked_for
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints" / "easyr1-gpu.txt"
TOGETHER = (
    "numpy",
    "pyarrow",
    "pandas",
    "datasets",
    "matplotlib",
)  # what has numpy's binary interface built in


def constraints():
    lines = CONSTRAINTS.read_text().splitlines()
    return {r.name: r.specifier for r in map(Requirement, (x for x in lines if x and not x.startswith("#")))}


def wanted():
    """Requirements of the package with the extra."""
    return [*asked_for(""), *asked_for("easyr1")]


def test_every_pin_is_in_the_range_that_the_package_asks_for():
    pinned = {name: next(iter(spec)).version for name, spec in constraints().items() if "==" in str(spec)}
    asked = [r for r in wanted() if r.name in pinned]
    assert [r.name for r in asked] == ["torch"]
    assert all(r.specifier.contains(pinned[r.name]) for r in asked)
    assert not constraints()["pyarrow"].contains("26.0.1")  # which will not be imported beside numpy 1
    assert not constraints()["numpy"].contains("2.0.0")
    assert not constraints()["transformers"].contains("5.0.0")
    assert "qwen-vl-utils" in {r.name for r in wanted()}  # EasyR1 imports it


def test_the_dockerfile_runs_what_the_recipes_page_says():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    instructions = [line for line in lines if line and not line.startswith("#")]
    words = [line.split(maxsplit=1)[0] for line in instructions]
    assert words == ["FROM", "ENV", "WORKDIR", "COPY", "RUN", "RUN", "RUN"]
    readme = (ROOT / "recipes/README.md").read_text()
    assert instructions[0].removeprefix("FROM ") in readme
    assert 'ENV PIP_CONSTRAINT=""' in instructions
    for line in instructions[4:]:
        subprocess.run(["bash", "-n", "-c", line.removeprefix("RUN ")], check=True)
    commit = re.search(r"EasyR1@(\w+)", readme)
    assert commit is not None
    assert f"EasyR1@{commit[1]}" in instructions[5]
    for file in re.findall(r"constraints/\S+\.txt", instructions[4]):
        assert (ROOT / file).exists()


@pytest.fixture(scope="module")
def pip(tmp_path_factory):
    """Runs pip in a new environment. Nothing else holds: no constraint of the machine's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    environment = {**os.environ, "PIP_CONSTRAINT": ""}

    def run(*arguments):
        command = [folder / "bin" / "python", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run("-m", "pip", "install", "-q", "-U", "pip")
    return run


@pytest.mark.slow
def test_what_the_constraints_give_can_be_imported_together(pip):
    pip("-m", "pip", "install", "-q", "--only-binary", ":all:", "-c", str(CONSTRAINTS), *TOGETHER)
    code = "import numpy, pyarrow, pyarrow.parquet, pandas, datasets, matplotlib.pyplot"
    assert pip("-c", f"{code}; print(numpy.__version__)").startswith("1.")


@pytest.mark.slow
def test_pip_finds_versions_for_the_constraints(pip):
    """vLLM, torch and all that the extra asks for at once; gigabytes are looked at, none is kept."""
    wheels = (
        "--only-binary",
        ":all:",
        "--no-binary",
        "antlr4-python3-runtime",
    )  # which omegaconf takes, has none
    pip("-m", "pip", "install", "--dry-run", "-q", *wheels, "-c", CONSTRAINTS, "vllm==0.11.0", ".[easyr1]")
