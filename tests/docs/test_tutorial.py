"""The tutorial's commands run as they stand; and a data set in parquet goes the same way."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import encoded, picture

from gmpo_vl.cli import main
from gmpo_vl.data.mapping import load_mapping
from gmpo_vl.models.tiny import packaged_tiny

TUTORIAL = Path(__file__).parents[2] / "docs" / "data.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def run(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "gmpo-vl"
    assert main(arguments) == 0, command


def test_every_command_of_the_tutorial_runs_in_its_order(empty_folder):
    commands = []
    for kind, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if kind == "python":
            subprocess.run([sys.executable, "-c", text], check=True)
        elif kind == "yaml":  # an example of a mapping
            path = empty_folder / "example.yaml"
            path.write_text(text, encoding="utf-8")
            load_mapping(path)
        else:
            assert kind == "bash"
            for command in text.strip().split("\n"):
                run(command)
                commands.append(command.split()[1:3])
    assert commands == [
        ["data", "new"], ["data", "convert"], ["train", "squares_run.yaml"], ["data", "check"],
        ["data", "show"], ["doctor", "squares_run.yaml"], ["report", "runs/squares"],
    ]  # fmt: skip
    card = json.loads((empty_folder / "data/squares/data_card.json").read_text())
    assert card["rows_in"] == 120 == sum(split["rows"] for split in card["splits"].values())
    assert card["dropped"] == {}
    metrics = [
        json.loads(line) for line in (empty_folder / "runs/squares/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in metrics if "actor/pg_loss" in line] == [1, 2, 3]
    assert json.loads((empty_folder / "runs/check/check.json").read_text())["errors"] == 0
    assert "data:image/png" in (empty_folder / "runs/show.html").read_text()
    findings = json.loads((empty_folder / "runs/doctor/doctor.json").read_text())
    assert {f["level"] for f in findings} <= {"ok", "note"}
    looked_at = "weights tokens template data batches memory disk reward sight rehearsal".split()
    assert set(looked_at) <= {f["check"] for f in findings}
    rehearsal_took_what_was_estimated({f["check"]: f["what"] for f in findings})
    assert (empty_folder / "runs/squares/report.html").is_file()


def rehearsal_took_what_was_estimated(said: dict[str, str]) -> None:
    """Three steps at worst-case lengths, the update's tensors within 20% of the estimate."""
    assert "3 steps with prompts of" in said["rehearsal"]
    assert "responses of 32 tokens" in said["rehearsal"]
    estimated = re.search(r"([\d.]+) MiB  at the peak", said["memory"])
    measured = re.search(r"update ([\d.]+) MiB", said["rehearsal"])
    if measured is None:  # peaks are read from Linux
        assert not Path("/proc/self/clear_refs").exists()
        return
    assert estimated is not None
    assert float(estimated[1]) == pytest.approx(float(measured[1]), rel=0.2)


CONFIG = """
engine: local
data: {train_files: out/train.parquet, val_files: out/validation.parquet, max_prompt_length: 128,
       max_response_length: 8, rollout_batch_size: 4, min_pixels: null, max_pixels: 25088}
worker:
  actor: {global_batch_size: 2, fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}, model: {model_path: MODEL}}
  rollout: {n: 2}
  reward: {reward_function: choice}
trainer: {max_steps: 3, logger: [file], save_checkpoint_path: run}
"""
MAPPING = """
source: {train: quiz.parquet, validation: quiz_val.parquet}
images: [before, after]
image_marks: "[img{n}]"
problem: prompt
choices: alternatives
answer_is: number
answer: correct
id: key
keep: lang == "en"
"""


def test_an_unseen_set_in_parquet_is_mapped_checked_shown_and_trained(empty_folder):
    def rows(start: int) -> list[dict]:
        return [
            {
                "key": f"k{i}",
                "before": {"bytes": encoded(picture(i)), "path": None},
                "after": {"bytes": encoded(picture(i + 1000)), "path": None},
                "prompt": f"What changed from [img1] to [img2] in {i}?",
                "alternatives": ["nothing", "a pixel", "the size"],
                "correct": 2,
                "lang": "en" if i % 4 else "de",
            }
            for i in range(start, start + 16)
        ]

    for name, start in (("quiz", 0), ("quiz_val", 100)):
        pq.write_table(pa.Table.from_pylist(rows(start)), f"{name}.parquet")
    Path("quiz.yaml").write_text(MAPPING)
    Path("run.yaml").write_text(CONFIG.replace("MODEL", str(packaged_tiny())))
    assert len(MAPPING.strip().split("\n")) <= 15
    run("gmpo-vl data convert quiz.yaml out")
    run("gmpo-vl data check run.yaml --fail-on warning")
    run("gmpo-vl data show run.yaml --split validation")
    run("gmpo-vl train run.yaml")
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "actor/pg_loss" in line] == [1, 2, 3]
    page = Path("runs/show.html").read_text()
    assert "B. a pixel" in page
    assert page.count("<figure>") == 24
