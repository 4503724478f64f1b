"""What the extras of pyproject.toml hold is true: commands run with an extra's packages and no others."""

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from installed import ROOT, asked_for, brought, environment_with
from packaging.utils import canonicalize_name

from gmpo_vl.cli.missing import MODULES
from gmpo_vl.models.tiny import packaged_tiny

# Where they are imported, a sentence says what to do without them.
FROM_ELSEWHERE = {"verl", "vllm"}

# RESULT stands for the folder of the evaluation that a command before made.
COMMANDS = """
import glob, json, os, sys
from gmpo_vl.cli import main
for command in json.loads(sys.argv[1]):
    if "RESULT" in command:
        [plan] = glob.glob("e/*/plan.json")
        command = [os.path.dirname(plan) if word == "RESULT" else word for word in command]
    assert main(command) == 0, command
"""
SMALL_RUN = (
    "trainer.max_steps=1 trainer.val_freq=-1 trainer.val_before_train=false "
    "trainer.logger=[file,tensorboard] data.train_files=diagrams/train.parquet "
    "data.val_files=diagrams/validation.parquet data.rollout_batch_size=4 worker.actor.global_batch_size=4 "
    "worker.rollout.n=2 data.max_response_length=8"
).split()
SMALL_EVALUATION = "--n 2 --max-tokens 8 --min-pixels 784 --limit 4".split()


def names_of(extra: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in asked_for(extra)}


@pytest.mark.parametrize("extra", MODULES)
def test_the_list_for_messages_is_the_extra(extra):
    owners = packages_distributions()
    assert {canonicalize_name(owners[module][0]) for module in MODULES[extra]} == names_of(extra)


def test_an_extra_brings_every_package_that_is_imported():
    owners = packages_distributions() | {
        "ray": ["ray"],
        "wandb": ["wandb"],
        "qwen_vl_utils": ["qwen-vl-utils"],
        "textworld": ["textworld"],
        "alfworld": ["alfworld"],
    }
    known = brought("train", "judge", "wandb", "easyr1", "alfworld", "import")
    for path in (ROOT / "gmpo_vl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
            for package in packages - FROM_ELSEWHERE - {"gmpo_vl"}:
                assert canonicalize_name(owners[package][0]) in known, (path, package)


@pytest.fixture
def run_with(tmp_path):
    """Runs code in a new process with an extra's packages alone."""

    def run(extra: str, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment_with(tmp_path, extra),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


def test_verify_asks_math_verify(run_with, tmp_path):
    pair = {"gold": r"\int_0^1 x dx", "response": r"\boxed{\int_0^1 y dy}"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    grade = ["grade", "pairs.jsonl"]
    asked = [[*grade, "--workers", "1"], [*grade, "--profile", "paper"]]
    said = run_with("verify", COMMANDS, json.dumps([grade, *asked]))
    assert [line.split(";")[0] for line in said.splitlines() if " of " in line] == [
        "0 of 1 correct (0.0%)",
        *["1 of 1 correct (100.0%)"] * 2,
    ]
    assert "undecided 1" in said


def test_judge_makes_its_questions(run_with, png):
    code = (
        "import sys\n"
        "from gmpo_vl.rewards.endpoint import ask\n"
        "from gmpo_vl.rewards.judging import data_uri\n"
        "from gmpo_vl.rewards.loading import load_reward\n"
        "reward = load_reward('judge', {'model': 'any', 'api_key_env': None, 'base_url': 'http://127.0.0.1:9',\n"
        "    'max_retries': 0, 'max_failed_share': 1.0, 'cache': 'replies'})\n"
        "given = {'response': 'blue', 'response_length': 1, 'ground_truth': 'red', 'problem': '?'}\n"
        "print(reward.scores([given]), data_uri(bytes.fromhex(sys.argv[1]), 10_000)[:22])\n"
    )
    pytest.importorskip("openai")
    said = run_with("judge", code, png.hex())
    assert "'unscored': 1.0" in said
    assert "data:image/png;base64," in said


def test_eval_brings_what_evaluation_and_data_need(run_with, tmp_path):
    (tmp_path / "questions.csv").write_text(
        "question,answer\n" + "".join(f"What is {i} + 1?,{i + 1}\n" for i in range(40))
    )
    evaluation = ["eval", str(packaged_tiny()), "--data", "diagrams/test.parquet", *SMALL_EVALUATION]
    commands = [
        ["data", "diagrams", "diagrams"],
        [*evaluation, "--out", "e"],
        *(["eval", what, "RESULT"] for what in ("merge", "regrade", "page")),
        ["eval", "compare", "--a", "RESULT", "--b", "RESULT"],
        ["eval", "protocols"],
        ["data", "difficulty", "RESULT", "--data", "diagrams/test.parquet", "--out", "rated.parquet"],
        ["grade", "--self-check", "diagrams/test.parquet"],
        ["data", "new", "mine", "--source", "questions.csv"],
        ["data", "convert", "mine.yaml", "mine"],
    ]
    run_with("eval", COMMANDS, json.dumps(commands))


def test_train_brings_what_everything_else_needs(run_with, tmp_path, diagrams):
    (tmp_path / "diagrams").symlink_to(diagrams)
    model = f"worker.actor.model.model_path={packaged_tiny()}"
    config = [str(ROOT / "configs/demo.yaml"), "trainer.save_checkpoint_path=run", model, *SMALL_RUN]
    run_with("train", COMMANDS, json.dumps([["train", *config], ["doctor", *config]]))
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
    of_eval = [["report", "run"], ["data", "check", *config], ["data", "show", *config]]
    assert "run/report.html" in run_with("eval", COMMANDS, json.dumps(of_eval))


def test_train_brings_what_a_study_draws_with(run_with):
    run_with("train", "import gmpo_vl.study.figure, gmpo_vl.study.phases, matplotlib.figure")
