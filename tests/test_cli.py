"""The command line: quick to start, and its errors are sentences."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gmpo_vl
from gmpo_vl.cli import main


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom gmpo_vl.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "usage: gmpo-vl" in result.stdout
    assert "HEAVY []" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no_such.yaml"], "no_such.yaml"),
        (["report", "no_such_run"], "no_such_run"),
        (["eval", "no/such/model", "--data", "x.parquet", "--out", "out"], "no/such/model"),
    ],
)
def test_a_wrong_path_is_named(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gmpo-vl: ")
    assert message in error


@pytest.mark.parametrize("name", ["qwen2_5_1_5b_alfworld_gmpo", "gridworld_tiny_cpu"])
@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_rows_and_games_that_cannot_be_opened_are_told_before_a_model_is(
    name, options, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = str(Path(__file__).parents[1] / "configs" / f"{name}.yaml")
    arguments = ["train", config, "worker.actor.model.model_path=no/such-model", *options]
    assert main(arguments) == 2
    assert "data/" in (said := capsys.readouterr().err)
    assert "no/such-model" not in said
    (tmp_path / "rows.jsonl").write_text('{"problem": "Go.", "answer": "-"}\n')
    (tmp_path / "mine.py").write_text("class Other: pass\n")
    rows = ["data.train_files=rows.jsonl", "data.val_files=null", "trainer.val_freq=-1"]
    assert main([*arguments, *rows, "environment.name=mine.py:Game"]) == 2
    assert "mine.py has no class 'Game'" in capsys.readouterr().err


def test_diagrams_are_written_where_asked(tmp_path, capsys):
    from gmpo_vl.tasks.diagrams import data as diagrams

    assert main(["data", "diagrams", str(tmp_path)]) == 0
    assert [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.split()] == [
        f"{split}.parquet" for split in diagrams.ROWS
    ]


def test_grade_writes_a_verdict_a_line_in_order(tmp_path, capsys):
    pairs = [("5 \\sqrt { 3 }", "\\boxed{5\\sqrt{3}}"), ("12", "about twelve"), ("0.5", "\\boxed{\\frac12}")]
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"gold": gold, "response": response}) + "\n" for gold, response in pairs)
    )
    assert main(["grade", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 0
    verdicts = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["correct"] for v in verdicts] == [True, False, True]
    assert capsys.readouterr().out.startswith("2 of 3 correct")
    assert main(["grade"]) == 2


def test_overrides_may_stand_behind_options(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("engine: local\n")
    for arguments in (
        ["data", "check", str(tmp_path / "a.yaml"), "--out", str(tmp_path), "worker.rolout.n=8"],
        ["train", "--dry-run", str(tmp_path / "a.yaml"), "worker.rolout.n=8"],
        ["doctor", str(tmp_path / "a.yaml"), "--rehearse", "worker.rolout.n=8"],
    ):
        assert main(arguments) == 2
        assert "there is no key worker.rolout.n; did you mean worker.rollout.n" in capsys.readouterr().err
    for arguments in (["doctor", "a.yaml", "--rehearse", "worker"], ["data", "new", "x", "a=b"]):
        with pytest.raises(SystemExit):
            main(arguments)


def test_ctrl_c_ends_a_command_with_a_word_and_no_traceback(monkeypatch, capsys):
    from gmpo_vl.data.start import write

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_start", stopped)
    assert main(["data", "new", "mine", "--source", "a.csv"]) == 130
    assert capsys.readouterr().err == "gmpo-vl: stopped\n"


@pytest.mark.parametrize("out", ["", " ", "a\nb", "x" * 300])
@pytest.mark.parametrize(
    "command",
    [
        ["data", "convert", "mine.yaml", None],
        ["data", "diagrams", None],
        ["grade", "pairs.jsonl", "--out", None],
        ["eval", "model", "--data", "rows.parquet", "--out", None],
        ["export", "runs/x/checkpoints/step_000001", None],
        ["study", "study.yaml", "--out", None],
    ],
)
def test_what_can_be_no_path_is_refused_before_anything_is_written(
    command, out, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([out if word is None else word for word in command])
    assert ended.value.code == 2
    assert "is no path: it is empty, too long, or has control characters" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evall", "invalid choice: 'evall'.*; did you mean eval"),
        ("data convrt a b", "invalid choice: 'convrt'.*; did you mean convert"),
        ("eval comapre a b", "eval has no command 'comapre'.*; did you mean compare"),
        ("data new mine --sorce a.csv", "there is no option --sorce; did you mean --source"),
        ("data new mine --sorce=a.csv", "there is no option --sorce; did you mean --source"),
        ("doctor a.yaml worker.rollout.n=8 --rehaerse", "no option --rehaerse; did you mean --rehearse"),
        ("eval model --protocl x", "there is no option --protocl; did you mean --protocol"),
        ("data check a.yaml --fail-on eror", "invalid choice: 'eror'.*; did you mean error"),
        ("train a.yaml --zzzzzz", "there is no option --zzzzzz$"),
    ],
)
def test_a_misspelt_command_or_option_gets_the_nearest(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert re.search(said, capsys.readouterr().err.strip())


def test_a_self_check_takes_no_pairs(tmp_path, capsys):
    assert main(["grade", "pairs.jsonl", "--self-check", str(tmp_path), "--out", "v.jsonl"]) == 2
    assert "no PAIRS.jsonl and no --out with it" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["gmpo_vl", "gmpo_vl.cli"])
def test_the_command_runs_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"gmpo-vl {gmpo_vl.__version__}\n")


def test_the_files_of_data_new_are_told_apart_and_a_run_says_where_its_model_is(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"question": f"What is {i} + 1?", "answer": str(i + 1)}) for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    assert main(["data", "new", "tab", "--source", "rows.jsonl"]) == 0
    for arguments, named in [
        (["data", "check", "tab.yaml"], "gmpo-vl data convert tab.yaml FOLDER"),
        (["doctor", "tab_eval.yaml"], "gmpo-vl eval MODEL --protocol tab_eval.yaml"),
        (["data", "convert", "tab_run.yaml", "out"], "gmpo-vl train tab_run.yaml"),
        (["eval", "run", "model", "--protocol", "tab.yaml"], "gmpo-vl data convert tab.yaml FOLDER"),
    ]:
        capsys.readouterr()
        assert main(arguments) == 2
        assert named in capsys.readouterr().err
    assert main(["data", "convert", "tab.yaml", "data/tab"]) == 0
    train = ["train", "tab_run.yaml", "trainer.max_steps=1", "data.max_response_length=4"]
    assert main(train) == 0
    model = "runs/tab/checkpoints/step_000001/huggingface"
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"saved: {model}")
    assert main(train) == 0
    assert "other settings" not in capsys.readouterr().out
    assert main(["eval", "runs/tab"]) == 2
    assert f"a checkpoint's model is {model}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    assert "gmpo-vl eval run --help" in capsys.readouterr().out
