"""`gmpo-vl` as anybody runs it, in a process of its own."""

import os
import subprocess
import sys
import time

from gmpo_vl.runs import Run


def start(tmp_path, overrides, name, *more):
    """A training run with this name."""
    command = [sys.executable, "-m", "gmpo_vl.cli", "train", str(tmp_path / "run.yaml"), *overrides, *more]
    command.append(f"trainer.save_checkpoint_path={tmp_path / name}")
    return subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ),
    )


def finish(process, code=0):
    """What it printed."""
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == code, output[-6000:]
    return output


def train(tmp_path, overrides, name, *more):
    """A whole run: what it printed, and its folder."""
    return finish(start(tmp_path, overrides, name, *more)), Run(tmp_path / name)


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "gmpo_vl.cli", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


def wait_for(path, process, seconds=1800):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0][-6000:]
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


def of_steps(run, key):
    """A figure of every training step."""
    return [line[key] for line in run.read_metrics() if line["step"] > 0]
