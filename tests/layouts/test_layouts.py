"""From a public data set's files to a run: `data new`, then two commands and at most ten lines of mapping.

What is made is looked at: every problem word for word, every picture pixel by pixel, and which answers the
configured reward pays. `data check` calls it clean.
"""

from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS
from making import Row
from more_layouts import MORE

from gmpo_vl.cli import main
from gmpo_vl.config import Config, load_config
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.templates import as_asked, load_template, render_problem
from gmpo_vl.rewards.inputs import inputs_of
from gmpo_vl.runs import Run
from gmpo_vl.setup import load_configured_reward
from gmpo_vl.types import Example

# A run of seconds: few rollouts of few tokens.
SHORT = [
    "data.rollout_batch_size=2",
    "data.max_response_length=8",
    "worker.rollout.n=2",
    "worker.actor.global_batch_size=2",
    "trainer.max_steps=3",
    "trainer.val_freq=-1",
    "trainer.save_freq=-1",
    "trainer.logger=[file]",
]


EVERY = {**LAYOUTS, **MORE}


@pytest.fixture
def layout(request, tmp_path, monkeypatch):
    """(name, its mapping's lines or None, what its rows must become), after `data new`."""
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    source, wanted = EVERY[request.param].write(files)
    command("data", "new", request.param, "--source", source)
    lines = EVERY[request.param].mapping
    return request.param, lines and lines.format(source=source, folder=files), wanted


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_a_public_layout_becomes_a_run(layout):
    name, lines, wanted = layout
    if lines is not None:
        assert lines.count("\n") <= 10
        Path(f"{name}.yaml").write_text(lines, encoding="utf-8")
    config = load_config(f"{name}_run.yaml")
    examples = converted(name)
    same_rows(examples, wanted)
    pays_what_is_right(examples, wanted, config)

    settings = [*SHORT, *([] if Path(str(config.data.val_files)).exists() else ["data.val_files=null"])]
    command("data", "check", f"{name}_run.yaml", *settings, "--out", "check", "--fail-on", "warning")
    command("train", f"{name}_run.yaml", *settings)
    run = Run(config.trainer.save_checkpoint_path or f"runs/{config.trainer.experiment_name}")
    assert run.read_metrics()[-1]["step"] == 3
    assert {record.prompt for record in run.read_rollouts(3)} <= {row.problem for row in wanted}


@pytest.mark.parametrize("layout", EVERY, indirect=True)
def test_what_data_new_guesses_makes_the_same_rows(layout):
    name, _, wanted = layout
    examples = converted(name)
    same_rows(examples, wanted)
    pays_what_is_right(examples, wanted, load_config(f"{name}_run.yaml"))


def converted(name: str) -> list[Example]:
    """The rows of all splits."""
    command("data", "convert", f"{name}.yaml", f"data/{name}")
    return [e for path in sorted(Path(f"data/{name}").glob("*.parquet")) for e in load_examples(str(path))]


def command(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, " ".join(map(str, words))


def same_rows(examples: list[Example], wanted: list[Row]) -> None:
    """The same problems, and the very pictures that belong to them."""
    assert sorted(e.problem for e in examples) == sorted(row.problem for row in wanted)
    for example, row in pairs(examples, wanted):
        found = [np.asarray(decode_image(picture)) for picture in example.images]
        assert [picture.shape for picture in found] == [np.asarray(p).shape for p in row.pictures]
        assert all(map(np.array_equal, found, row.pictures)), example.problem


def pays_what_is_right(examples: list[Example], wanted: list[Row], config: Config) -> None:
    """The configured reward, asked through the configured prompt: every right form, and no wrong one."""
    reward = load_configured_reward(config)
    template = load_template(config.data.format_prompt) if config.data.format_prompt else None
    for example, row in pairs(examples, wanted):
        prompt = render_problem(example.problem, template)
        told = [as_asked(prompt, answer) for answer in (*row.right, *row.wrong)]
        inputs = inputs_of(reward.asks, example, [(text, len(text)) for text in told if text is not None])
        assert len(inputs) == len(told), "the prompt says where the answer stands"
        scores = [score.get("accuracy", score["overall"]) for score in reward(inputs)]
        right, wrong = scores[: len(row.right)], scores[len(row.right) :]
        unpaid = [answer for answer, score in zip(row.right, right) if score < 1]
        paid = [answer for answer, score in zip(row.wrong, wrong) if score > 0]
        assert (unpaid, paid) == ([], []), f"{example.problem!r}, gold {example.answer}"


def pairs(examples: list[Example], wanted: list[Row]) -> list[tuple[Example, Row]]:
    by_problem = {row.problem: row for row in wanted}
    assert len(by_problem) == len(wanted)
    return [(example, by_problem[example.problem]) for example in examples]
