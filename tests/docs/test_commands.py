"""Every command that README and docs show is run here or in a test named here, or says what it needs."""

import json
import re
import shlex
from pathlib import Path

import pytest
from documents import ROOT, Command, all_commands, blocks
from test_tutorial import TUTORIAL

from gmpo_vl.cli import main
from gmpo_vl.environments.gridworld import export as export_games
from gmpo_vl.models.tiny import packaged_tiny
from gmpo_vl.tasks.diagrams.data import export

COMMANDS = all_commands()
OF_THE_TUTORIAL = {
    line for kind, text in blocks(TUTORIAL) if kind == "bash" for line in text.strip().split("\n")
}
# Commands that another test runs as they stand, or their whole work.
ELSEWHERE = {
    "pip install -e .": "tests/install/test_light.py",
    'pip install -e ".[train]"': "tests/install/test_wheel.py",
    "python data_prep/geometry3k.py path/to/InterGPS/data/geometry3k data/geometry3k": (
        "tests/data_prep/test_geometry3k.py"
    ),
    "python data_prep/alfworld.py path/to/json_2.1.1 data/alfworld": "tests/data_prep/test_alfworld_rows.py",
    "python data_prep/vision_benchmarks.py wemath path/to/We-Math/data/testmini.json data/vision": (
        "tests/evaluation/test_benchmark_rows.py"
    ),
    "gmpo-vl eval import Qwen_WeMath.xlsx --protocol wemath --data data/vision --out runs/others": (
        "tests/evaluation/test_import_protocol.py"
    ),
    "python data_prep/gridworld.py data/gridworld": "tests/data_prep/test_gridworld_rows.py",
    'yes \'{"problem": "Guess my number.", "answer": "-"}\' | head -n 8 > guess.jsonl': (
        "tests/environments/test_environment_page.py"
    ),
    "gmpo-vl data check guess.yaml": "tests/environments/test_environment_page.py",
    "gmpo-vl train guess.yaml": "tests/environments/test_environment_page.py",
    "gmpo-vl report runs/guess": "tests/environments/test_environment_page.py",
    "gmpo-vl doctor MY.yaml --rehearse": "tests/docs/test_tutorial.py",
    "pytest -m slow": "tests/install/test_wheel.py",
    "pytest -m gpu": "tests/recipes/test_accept_1gpu.py",
}
HERE = [
    command
    for command in COMMANDS
    if command.text.startswith("gmpo-vl")
    and not command.needs
    and command.text not in OF_THE_TUTORIAL | ELSEWHERE.keys()
]

# A run of one small step, whatever a configuration says; the wishes of the command itself come after it.
QUICK = (
    *(
        "trainer.max_steps=1",
        "trainer.val_freq=-1",
        "trainer.val_before_train=false",
        "trainer.logger=[file]",
    ),
    *("data.rollout_batch_size=4", "worker.actor.global_batch_size=4", "worker.rollout.n=2"),
    *("data.max_response_length=8", "trainer.save_model_only=true"),
)
NO_ANSWERING = ("protocols", "compare", "import", "export")
QUICK_EVAL = ("--n", "2", "--max-tokens", "8", "--min-pixels", "784", "--limit", "4")


def test_every_command_is_run_somewhere_or_says_what_it_needs():
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        if command.needs or command in HERE or command.text in OF_THE_TUTORIAL:
            continue
        if command.text in ELSEWHERE:
            assert (ROOT / ELSEWHERE[command.text]).is_file(), command
        else:  # CI runs make test, lint and docs; a target's own work is run by the suite
            program, target, *_ = shlex.split(command.text)
            assert program == "make", command
            assert f"\n{target}:" in makefile, command


def test_what_needs_a_gpu_is_a_script_or_a_command_that_exists():
    for command in COMMANDS:
        program, *rest = shlex.split(re.sub(r"^[A-Z_]+=\S* ", "", command.text))
        if program == "bash":
            assert (ROOT / rest[0]).is_file(), command
        elif command.needs and program == "gmpo-vl" and rest[0] == "train":
            assert any((ROOT / argument).is_file() for argument in rest), command


def test_commands_in_the_text_are_commands():
    """`gmpo-vl data check` in a sentence names a command that there is."""
    from documents import DOCUMENTS

    from gmpo_vl.cli import build_parser
    from gmpo_vl.cli.evaluate import COMMANDS as OF_EVAL

    commands = build_parser()._subparsers._group_actions[0].choices
    of_data = commands["data"]._subparsers._group_actions[0].choices
    for document in DOCUMENTS:
        for name, second in re.findall(r"`gmpo-vl (\w+)(?: (\w+))?", document.read_text(encoding="utf-8")):
            assert name in commands, document
            if name == "data":
                assert second in of_data, document
            if name == "eval" and second and second.islower():
                assert second in OF_EVAL, document


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder as the commands presuppose it: a checkout's files, data in EasyR1's form, and MY.yaml."""
    folder = tmp_path_factory.mktemp("commands")
    for name in ("configs", "gmpo_vl"):
        (folder / name).symlink_to(ROOT / name)
    for data in ("runs/demo/data", "data/geometry3k", "data/shortcut"):
        export(folder / data, {"train": 16, "validation": 8, "test": 8})
    for name, split in (("mine", "train"), ("mine_val", "validation")):
        (folder / f"{name}.parquet").symlink_to(folder / f"data/geometry3k/{split}.parquet")
    export_games(folder / "data/gridworld", {"train": 8, "validation": 2, "test": 4})
    (folder / "golds.parquet").symlink_to(folder / "data/geometry3k/train.parquet")
    (folder / "questions.csv").write_text(
        "question,answer\n" + "".join(f"What is {i} + 1?,{i + 1}\n" for i in range(40))
    )
    (folder / "answers.jsonl").write_text('{"gold": "42", "response": "so \\\\boxed{42}"}\n')
    line = {"doc_id": 0, "target": "42", "filtered_resps": "42", "exact_match": 1.0, "input": "6 * 7?"}
    (folder / "20260101_samples_mine.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "MY.yaml").write_text(
        "base: configs/geometry3k_tiny_cpu.yaml\n"
        "data: {train_files: mine.parquet, val_files: mine_val.parquet, rollout_batch_size: 4}\n"
        "trainer: {experiment_name: mine}\n"
        "worker: {rollout: {n: 2}, actor: {global_batch_size: 4, model: {model_path: "
        f"{packaged_tiny()}}}}}}}\n"
    )
    for document in sorted((ROOT / "docs/add").glob("*.md")):
        for _, text in blocks(document):
            if found := re.match(r"# (\w+\.(?:py|yaml))\n", text):
                (folder / found[1]).write_text(text)
    return folder


@pytest.mark.parametrize("command", HERE, ids=str)
def test_a_command_runs(command: Command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs = next((str(p.parent) for p in Path("runs/eval").rglob("results.json")), "RUNS")
    text = command.text.replace("MODEL", str(packaged_tiny())).replace("RUNS", runs)
    _, *arguments = shlex.split(text)
    if arguments[0] == "train":
        own_folder = f"trainer.save_checkpoint_path=runs/{HERE.index(command)}"
        behind_file = next(i for i, text in enumerate(arguments, 1) if text.endswith(".yaml"))
        few_looks = ["trainer.look_prompts=4"] if "look_" in text else []
        arguments[behind_file:behind_file] = [*QUICK, own_folder, *few_looks]
    if arguments[0] == "eval" and arguments[1] not in NO_ANSWERING:
        arguments += [a for pair in zip(*[iter(QUICK_EVAL)] * 2) if pair[0] not in arguments for a in pair]
    assert main(arguments) == 0, capsys.readouterr().err
