"""The core alone: with nothing beside mpmath all rewards and `gmpo-vl grade` work, and what needs more says
which extra has it. `make test-light` runs this in an environment of that kind.
"""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from installed import ROOT, brought, environment_with

import gmpo_vl.cli.rewards
from gmpo_vl.cli import main
from gmpo_vl.cli.missing import missing

# Command, and the extra that it says.
NEED_MORE = {
    "train MY.yaml": "train",
    "doctor MY.yaml": "train",
    "demo": "train",
    "study MY.yaml": "train",
    "export CHECKPOINT NEW": "train",
    "report RUN": "eval",
    "data check MY.yaml": "eval",
    "data show MY.yaml": "eval",
    "data new mine --source table.csv": "eval",
    "data convert mine.yaml out": "eval",
    "data diagrams out": "eval",
    "data difficulty A --data table.csv --out x.parquet": "eval",
    "eval MODEL --data table.csv": "eval",
    "eval merge A B": "eval",
    "eval regrade A": "eval",
    "eval compare --a A --b B": "eval",
    "eval table A": "eval",
    "eval page A": "eval",
    "eval protocols": "eval",
    "grade pairs.jsonl --profile paper": "verify",
    "grade pairs.jsonl --workers 1": "verify",
    "grade --self-check table.parquet": "eval",
}

GRADED = r"""
from pathlib import Path
from gmpo_vl.rewards.about import describe
from gmpo_vl.rewards.loading import built_in_rewards, load_reward
from gmpo_vl.types import Example

for name in built_in_rewards():
    about = describe(name)
    assert max(score["overall"] for _, _, score in about.examples) > 0.5, name
    if name != "judge":
        reward = load_reward(name)
        row = (Example("row", "", about.examples[0][0]), [(about.examples[0][1], 9), ("no answer", 2)])
        (right, _), (wrong, _) = reward.scored([row])
        assert right["overall"] > wrong["overall"], name
try:
    load_reward("judge", {"model": "any", "api_key_env": None})
    print("the judge can be asked")
except ValueError as error:
    print(error)
"""

MEMORY = """
import sys

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

before, modules = held(), set(sys.modules)
import gmpo_vl.verify
added = {name.partition(".")[0] for name in set(sys.modules) - modules}
print(held() - before, *sorted(added - {"__mp_main__", *sys.stdlib_module_names}))
"""


@pytest.fixture
def python(tmp_path):
    """Runs Python with the core's packages alone; returns what it did."""
    environment = environment_with(tmp_path)
    place = tmp_path / "here"
    place.mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=place, capture_output=True, text=True
        )

    run.place = place
    return run


def test_the_core_is_mpmath_alone():
    assert brought() == {"gmpo-vl", "mpmath"}


def test_every_reward_grades_and_the_judge_names_its_extra(python):
    done = python("-c", GRADED)
    assert done.returncode == 0, done.stderr
    assert "pip install 'gmpo-vl[judge]'" in done.stdout
    listed = python("-m", "gmpo_vl", "rewards")
    assert "judge" in listed.stdout, listed.stderr
    assert "gold" in python("-m", "gmpo_vl", "rewards", "judge").stdout


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ([], 2),
        (["--reward", "math"], 2),
        (["--reward", "numeric", "--reward-options", '{"tolerance": 0.2}'], 3),
        (["--reward", "mine.py:pays"], 1),
    ],
)
def test_grade_works(python, options, right):
    pairs = [("5", r"\boxed{5}"), ("\\frac{1}{2}", r"\boxed{0.5}"), ("10", r"\boxed{11}")]
    lines = [json.dumps({"gold": gold, "response": response}) for gold, response in pairs]
    (python.place / "pairs.jsonl").write_text("\n".join(lines))
    (python.place / "mine.py").write_text(
        "REWARD_TYPE = 'sequential'\n"
        "def pays(given):\n    return {'overall': float(given['ground_truth'] in given['response'])}\n"
    )
    done = python("-m", "gmpo_vl", "grade", "pairs.jsonl", "--out", "out.jsonl", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{right} of 3 correct")
    verdicts = [json.loads(line) for line in (python.place / "out.jsonl").read_text().splitlines()]
    assert sum(one["correct"] for one in verdicts) == right
    assert "right" in python("-m", "gmpo_vl", "grade", "pairs.jsonl", *options).stdout


def test_the_page_s_example_in_python(python):
    example = re.search(
        r"^```python\n(.*?)^```", (ROOT / "docs/install.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert example is not None
    done = python("-c", example[1])
    assert done.stdout == "True\n[{'overall': 0.9, 'format': 0.0, 'accuracy': 1.0}]\n", done.stderr


def test_options_in_yaml_ask_for_pyyaml_and_json_does_not(python):
    grade = ("-m", "gmpo_vl", "grade", "pairs.jsonl", "--reward", "numeric", "--reward-options")
    done = python(*grade, "{tolerance: 0.2}")
    assert done.returncode == 2
    assert "reading YAML needs yaml: pip install 'gmpo-vl[eval]'" in done.stderr
    assert "there is no file pairs.jsonl" in python(*grade, '{"tolerance": 0.2}').stderr


def test_golds_of_text_tables_are_checked(python):
    (python.place / "rows.jsonl").write_text('{"problem": "How many?", "answer": "5", "images": ["a.png"]}\n')
    (python.place / "rows.csv").write_text("problem,answer\nHow many?,5\n")
    for name in ("rows.jsonl", "rows.csv"):
        done = python("-m", "gmpo_vl", "grade", "--self-check", name)
        assert done.returncode == 0, done.stderr
        assert "0 golds do not verify against themselves" in done.stdout


def test_help_and_version(python):
    assert "usage: gmpo-vl" in python("-m", "gmpo_vl", "--help").stdout
    assert python("-m", "gmpo_vl", "--version").stdout.startswith("gmpo-vl ")
    for command in dict.fromkeys(command.split()[0] for command in NEED_MORE):
        assert python("-m", "gmpo_vl", command, "--help").returncode == 0


def test_what_needs_more_says_which_extra(python):
    """Each as a user types it, all in one process."""
    (python.place / "pairs.jsonl").write_text('{"gold": "5", "response": "\\\\boxed{5}"}\n')
    (python.place / "table.csv").write_text("problem,answer\nHow many?,5\n")
    (python.place / "table.parquet").write_bytes(b"PAR1")
    (python.place / "MY.yaml").write_text("engine: local\n")
    code = (
        "import contextlib, io, json, sys\n"
        "from gmpo_vl.cli import main\n"
        "for command in sys.argv[1:]:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(command.split())\n"
        "    print(json.dumps([code, said.getvalue()]))\n"
    )
    done = python("-c", code, *NEED_MORE)
    assert done.returncode == 0, done.stderr
    said = dict(zip(NEED_MORE, map(json.loads, done.stdout.splitlines()), strict=True))
    for command, extra in NEED_MORE.items():
        code, text = said[command]
        assert code == 2, (command, text)
        assert text.endswith(f"pip install 'gmpo-vl[{extra}]'\n"), (command, text)
        assert text.startswith(f"gmpo-vl {command.split()[0]}"), (command, text)
    assert said["train MY.yaml"][1].startswith("gmpo-vl train needs ")
    assert said["eval MODEL --data table.csv"][1].startswith("gmpo-vl eval run needs ")


def test_a_module_that_no_extra_brings_keeps_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(
        gmpo_vl.cli.rewards, "run_rewards", lambda _: importlib.import_module("no_such_module")
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        main(["rewards"])
    assert missing("gmpo-vl rewards", "gmpo_vl.no_such_file") is None
    assert missing("gmpo-vl rewards", None) is None


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_the_verifier_loads_little(python):
    megabytes, *packages = python("-c", MEMORY).stdout.split()
    assert packages == ["gmpo_vl", "mpmath"]
    assert 1 < float(megabytes) < 30
