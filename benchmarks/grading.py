r"""What grading stored answers again takes, in time and memory: `make bench-grading ARGS=ANSWERS.jsonl`.

An evaluation of 100,000 samples is made of labelled answers: 6,250 questions of 16, a question's answers
drawn from those to the same gold, each behind some 1,000 characters of reasoning. A line of ANSWERS.jsonl (or
.jsonl.xz) has a `gold`, a `response` with a box, and `choices` where there are some; without a file the
verifier's corpus is taken, where nearly every answer is written in a way of its own.

Each step runs in a process of its own. Times are CPU seconds, its children's too, which a busy machine does
not blur, and stand beside one yardstick of the same run: reading the samples' lines with `json` alone. Memory
is the peak of the process, and of the largest of its children.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "tests" / "verify" / "corpus.jsonl"
QUESTIONS, N = 6_250, 16
REASONING = 1_000  # characters
PROCESSES = 2


def labelled(path: Path) -> Iterator[tuple[str, str]]:
    """(gold as the data has it, response) of every answer in a box."""
    from gmpo_vl.data.answers import encode_answer

    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            response = row.get("response", f"\\boxed{{{row.get('answer')}}}")
            if row.get("answer_in", "box") == "box" and "\\boxed" in response:
                gold, choices = row["gold"], row.get("choices")
                yield encode_answer(gold, choices=choices) if choices else str_of(gold), response


def str_of(gold: str | list[str]) -> str:
    from gmpo_vl.data.answers import encode_answer

    return gold if isinstance(gold, str) else encode_answer(gold)


def write_evaluation(source: Path, folder: Path) -> None:
    """plan.json and samples.jsonl of an evaluation that nobody has graded, without pictures."""
    from gmpo_vl.evaluation.protocols import load_protocol
    from gmpo_vl.runs import EvaluationFolder
    from gmpo_vl.samples import SampleRecord, write_samples
    from gmpo_vl.storage.files import write_json

    draw = random.Random(0)
    by_gold: dict[str, list[str]] = {}
    for gold, response in labelled(source):
        by_gold.setdefault(gold, []).append(response)
    prose = " ".join(r.partition("\\boxed")[0] for of_gold in by_gold.values() for r in of_gold)
    prose = prose if len(prose) > 100 * REASONING else "so the angle of the triangle is therefore " * 5_000
    golds = draw.choices([*by_gold], weights=[len(found) for found in by_gold.values()], k=QUESTIONS)

    def records() -> Iterator[SampleRecord]:
        for number, gold in enumerate(golds):
            for k in range(N):
                start = draw.randrange(len(prose) - REASONING)
                yield SampleRecord(
                    id=f"q{number:05d}",
                    group=f"q{number:05d}",
                    k=k,
                    prompt="What is it?",
                    images=[],
                    response=f"{prose[start : start + REASONING]}\n{draw.choice(by_gold[gold])}",
                    finished=True,
                    gold=gold,
                    extracted=None,
                    gold_type="unknown",
                    correct=False,
                    outcome="different",
                    reward={"overall": 0.0, "strict": 0.0},
                    seed=0,
                    length=REASONING // 4,
                )

    evaluation = EvaluationFolder(folder).create()
    write_samples(evaluation.samples_file, records())
    protocol = replace(
        load_protocol("mathvista"), name="graded", n=N, temperature=0.5, aggregate=None
    ).stated()
    plan = {
        "name": "graded",
        "protocol": protocol,
        "questions": QUESTIONS,
        "data": {"source": "answers", "sha256": "", "pinned": None, "rows": QUESTIONS},
        "model": {"path": "model", "sha256": ""},
        "backend": {"name": "none", "dtype": "", "device": ""},
        "versions": {},
        "template": {"name": "chat", "stop": None, "answer_in": "box"},
    }
    write_json(evaluation.plan_file, plan)


# --- what is measured ---------------------------------------------------------------------------------------
def read_lines(folder: Path) -> str:
    with (folder / "samples.jsonl").open("rb") as file:
        return f"{sum(bool(json.loads(line)) for line in file):,} lines"


def read_records(folder: Path) -> str:
    from gmpo_vl.runs import EvaluationFolder

    return f"{sum(1 for _ in EvaluationFolder(folder).samples()):,} records"


def regrade_all(folder: Path) -> str:
    from gmpo_vl.evaluation.grading import regrade_folder
    from gmpo_vl.runs import EvaluationFolder

    answers, changed = regrade_folder(EvaluationFolder(folder), PROCESSES)
    digest = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    return f"{answers:,} answers, {changed:,} verdicts changed, samples.jsonl {digest[:12]}"


def count_all(folder: Path) -> str:
    from gmpo_vl.evaluation.results import figures
    from gmpo_vl.runs import EvaluationFolder
    from gmpo_vl.samples import without_text

    found = figures(list(map(without_text, EvaluationFolder(folder).samples())), N)
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return f"Pass@1 {found['pass@1']:.4f}, maj@{N} {found['maj@k'][str(N)]['value']:.4f}, {digest[:12]}"


def write_page(folder: Path) -> str:
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.runs import EvaluationFolder

    return f"{write_result_page(EvaluationFolder(folder)).stat().st_size / 2**20:.1f} MiB"


STEPS: dict[str, Callable[[Path], str]] = {
    "json": read_lines,
    "records": read_records,
    f"regrade, {PROCESSES} processes": regrade_all,
    "figures": count_all,
    "page": write_page,
}


def measured(name: str, folder: Path) -> None:
    """In a process of its own: run a step, print its cost as JSON."""
    import time

    start = time.perf_counter()
    said = STEPS[name](folder)
    wall = time.perf_counter() - start
    multiprocessing.active_children()  # reaped, so that they count
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(used.ru_utime + used.ru_stime for used in (own, others))
    print(json.dumps([cpu, wall, own.ru_maxrss / 1024, others.ru_maxrss / 1024, said]))


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--step":
        measured(sys.argv[2], Path(sys.argv[3]))
        return
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "graded"
        write_evaluation(source, folder)
        size = (folder / "samples.jsonl").stat().st_size / 2**20
        print(f"{QUESTIONS * N:,} samples of {QUESTIONS:,} questions, {size:.0f} MiB, from {source.name}")
        print(f"{'step':22} {'CPU s':>7} {'x json':>7} {'wall s':>7} {'MiB':>6} {'child':>6}")
        yardstick = None
        for name in STEPS:
            command = [sys.executable, __file__, "--step", name, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            cpu, wall, own, child, said = json.loads(done.stdout.splitlines()[-1])
            yardstick = yardstick or cpu
            print(
                f"{name:22} {cpu:7.1f} {cpu / yardstick:7.1f} {wall:7.1f} {own:6.0f} {child:6.0f}  {said}",
                flush=True,
            )


if __name__ == "__main__":
    main()
