"""Figures and samples reach TensorBoard once, whatever happened in between."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gmpo_vl.engines.local.engine import train
from gmpo_vl.engines.loggers import Console, clock


def test_tensorboard_gets_every_step_once_and_samples_with_their_pictures(make_config):
    settings = ("trainer.logger=[tensorboard]",)
    train(make_config(*settings, "trainer.max_steps=3"))  # its last checkpoint is that of step 3
    run = train(make_config(*settings))
    events = EventAccumulator(
        str(run.folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}
    ).Reload()
    lines = run.read_metrics()
    for name in ("actor/pg_loss", "reward/accuracy", "time/step"):
        written = [(e.step, e.value) for e in events.Scalars(name)]
        assert written == [
            (line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line
        ]
    assert {"validation/0/0", "rollouts/0/0"} <= set(events.Tags()["images"])
    assert "validation/0/text_summary" in events.Tags()["tensors"]


def test_a_line_on_the_console_reads_by_itself(capsys):
    values = {
        "reward/overall": 0.5,
        "reward/accuracy": 0.45,
        "response_length/mean": 17.3,
        "rollout/truncated": 0.02,
        "group/zero_variance": 0.25,
        "actor/ratio_min": 0.71,
        "actor/ratio_max": 1.44,
        "actor/grad_norm": 0.83,
        "actor/entropy": 0.41,
        "time/step": 2.0,
        "val/accuracy": 0.5,
    }
    Console(total_steps=40).metrics(10, values)
    assert capsys.readouterr().out == (
        "step 10/40  reward 0.500  right 0.450  length 17  cut 2%  flat 25%  ratio 0.71-1.44  grad 0.83  "
        "entropy 0.41  2.0 s/step  1:00 left  validation 0.500\n"
    )
    Console(total_steps=40).metrics(11, {k: v for k, v in values.items() if k != "reward/accuracy"})
    assert "reward 0.500  length 17" in capsys.readouterr().out  # "right" is of a reward that says what is


def test_a_reward_of_any_size_is_a_short_word_on_the_console(capsys):
    keys = "response_length/mean rollout/truncated group/zero_variance actor/grad_norm time/step".split()
    values = dict.fromkeys(keys, 0.0)
    sizes = {"reward/overall": -1e300, "reward/accuracy": 2e20, "val/accuracy": 1e300, "actor/ratio_max": 3e9}
    Console(total_steps=4).metrics(1, values | sizes)
    said = capsys.readouterr().out
    assert "reward -1e+300  right 2e+20 " in said
    assert "ratio ?-3e+09" in said
    assert "validation 1e+300\n" in said


def test_clock():
    assert [clock(s) for s in (5, 65, 3605)] == ["0:05", "1:05", "1:00:05"]
