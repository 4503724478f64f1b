"""benchmarks/choice_forms.py on three questions: no wrong option passes, and every right one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "choice_forms.py"
QUESTIONS = [
    {"gold": ["145°", "C"], "choices": ["135°", "140°", "145°", "150°"]},
    {"gold": ["A", "(0, 0)"], "choices": ["(0, 0)", "(-1, 0)", "(2, 0)"]},
    {"gold": "B", "choices": ["a polynomial", "a trigonometric function", "none of the above"]},
]


def test_every_form_of_every_option(tmp_path):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "figures.json"
    answers.write_text("".join(json.dumps(row) + "\n" for row in [*QUESTIONS, QUESTIONS[0]]))
    command = [sys.executable, SCRIPT, answers, "--out", out, "--processes", "1"]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    figures = json.loads(out.read_text())
    assert (figures["questions"], figures["options"]) == (3, 10)
    assert figures["right"] == 3 * (76 + 15 + 58)
    assert figures["wrong"] > 1_900
    assert (figures["accepted"], figures["missed"]) == (0, 0), said
