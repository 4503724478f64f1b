"""docs/environments.md: its example runs as it stands, and so does the run of it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from gmpo_vl.cli import main

PAGE = (Path(__file__).parents[2] / "docs/environments.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_example_is_an_environment(tmp_path):
    game, use = BLOCKS
    (tmp_path / "guess.py").write_text(game)
    done = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Guess my number.\n\nTurn 1: A number from 1 to 9.\nToo high.\n"


def test_the_run_of_the_example(tmp_path, monkeypatch, capsys):
    config, commands = re.search(
        r"^```yaml\n(# guess.yaml.*?)^```\n\n```bash\n(.*?)^```", PAGE, re.S | re.M
    ).groups()
    (tmp_path / "guess.py").write_text(BLOCKS[0])
    (tmp_path / "guess.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    rows, *ours = commands.strip().split("\n")
    subprocess.run(["bash", "-c", rows], check=True)
    for command in ours:
        program, *arguments = shlex.split(command)
        assert program == "gmpo-vl"
        assert main(arguments) == 0, command
    said = capsys.readouterr().out
    assert "train: 8 rows, 0 with errors; 42 tokens in the middle" in said
    assert "warning" not in said
    assert "step 2/2" in said
    assert "<b>32</b> episodes" in (tmp_path / "runs/guess/report.html").read_text()
