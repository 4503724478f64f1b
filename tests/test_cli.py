"""The command line: quick to start, and its errors are sentences."""

import subprocess
import sys

import pytest

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


def test_diagrams_are_written_where_asked(tmp_path, capsys):
    from gmpo_vl.data import diagrams

    assert main(["data", "diagrams", str(tmp_path)]) == 0
    assert [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.split()] == [
        f"{split}.parquet" for split in diagrams.ROWS
    ]
