"""recipes/accept_8gpu.sh's last step: what counts as a pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from gmpo_vl.runs import Run

SCRIPT = Path(__file__).parents[2] / "recipes" / "accept_report.py"
GOOD = {
    "reward/overall": 0.4,
    "rollout/mismatch_p50": 0.01,
    "rollout/mismatch_kl": 0.001,
    "actor/skipped_updates": 0.0,
    "time/generate": 30.0,
    "time/log_probs": 10.0,
    "time/step": 100.0,
    "memory/device_peak": 50.0,
    "batch/tokens_saved": 0.5,
}


def write_runs(folder, **changes):
    for name, seconds in (("shared", 20.0), ("plain", 40.0), ("easyr1_1", 60.0), ("easyr1_4", 50.0)):
        run = Run(folder / name).create()
        for step in range(1, 6):
            metrics = GOOD | {"time/update": 300.0 if step == 1 else seconds} | changes.get(name, {})
            run.append_metrics(step, metrics)


def report(folder):
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert (folder / "accept.txt").read_text() == done.stdout
    return done.returncode, done.stdout


def test_runs_as_they_should_be_pass_and_easyr1_s_best_is_compared(tmp_path):
    write_runs(tmp_path)
    code, text = report(tmp_path)
    assert code == 0
    assert text.endswith("PASS\n")
    assert "EasyR1's fastest (easyr1_4): 2.50 times as fast" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shared": {"rollout/mismatch_p50": 0.4}}, "sampler and trainer differ by 0.4 nats"),
        ({"plain": {"rollout/mismatch_p50": float("nan")}}, "sampler and trainer differ"),
        ({"shared": {"time/update": 41.0}}, "not faster"),
        ({"shared": {"batch/tokens_saved": 0.0}}, "no prompt was shared"),
        ({"shared": {"reward/overall": 0.1}}, "mean rewards differ"),
        ({"plain": {"actor/skipped_updates": 1.0}}, "non-finite gradient"),
    ],
)
def test_what_is_wrong_fails_with_its_reason(tmp_path, changes, reason):
    write_runs(tmp_path, **changes)
    code, text = report(tmp_path)
    assert code == 1
    assert reason in text.split("FAIL\n")[1]


def test_a_run_that_is_missing_or_short_fails(tmp_path):
    run = Run(tmp_path / "shared").create()
    run.append_metrics(1, GOOD | {"time/update": 20.0})
    code, text = report(tmp_path)
    assert code == 1
    assert "shared: 1 of 5 steps" in text
    assert "plain: did not run" in text
    assert "easyr1: did not run" in text
