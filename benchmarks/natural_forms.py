"""Share of the golds that every natural form of an answer reaches, and wrong options that pass:
`python benchmarks/natural_forms.py DATA`.

DATA holds mathvision_testmini/testmini.parquet and geometry3k/test.parquet, or one of the two. MathVision is
read as data_prep/mathvision.yaml says and judged by the reward `accuracy`, Geometry3K by the reward
`geometry3k`, both under the prompt `math`. The forms are those of gmpo_vl/verify/natural_forms.py, each
written as the prompt asks.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import load_mapping
from gmpo_vl.data.sources import open_tables
from gmpo_vl.data.templates import as_asked, load_template, render_problem
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.natural_forms import natural_forms, wrong_forms

PREPARATION = Path(__file__).parents[1] / "data_prep" / "mathvision.yaml"
EXAMPLES = 6  # of each form that fails

Row = tuple[str, str]  # problem, answer column


def mathvision(path: Path) -> Iterator[Row]:
    mapping = replace(load_mapping(PREPARATION), images="images", problem="question_raw")  # its columns here
    for table in open_tables(str(path)):
        for number in range(len(table.rows)):
            mapped = map_row(table.rows[number], mapping)
            if mapped is not None:
                yield mapped["problem"], mapped["answer"]


def geometry3k(path: Path) -> Iterator[Row]:
    columns = pq.read_table(path, columns=["problem", "answer"]).to_pydict()
    yield from zip(columns["problem"], columns["answer"])


SETS = {
    "mathvision_testmini/testmini.parquet": (mathvision, "accuracy"),
    "geometry3k/test.parquet": (geometry3k, "geometry3k"),
}


def measure(name: str, rows: list[Row], reward_name: str, examples: int) -> None:
    """Ask the reward about every form of every row, in one batch, and print what came of it."""
    reward, template = load_reward(reward_name), load_template("math")
    asked = []  # row, is it right?, form, input
    for i, (problem, answer) in enumerate(rows):
        gold, prompt = parse_gold(answer), render_problem(problem, template)
        for right, forms in ((True, natural_forms(gold)), (False, wrong_forms(gold))):
            for form in forms:
                response = as_asked(prompt, form.text)
                assert response is not None
                given = {"response": response, "response_length": len(response), "ground_truth": answer}
                asked.append((i, right, form, given))
    scores = reward([given for *_, given in asked])
    missed: dict[str, list[tuple[int, str]]] = defaultdict(list)
    passed: list[tuple[int, str]] = []
    for (i, right, form, _), score in zip(asked, scores):
        if right and score["accuracy"] < 1:
            missed[form.name].append((i, form.text))
        elif not right and score["accuracy"] > 0:
            passed.append((i, f"{form.name}: {form.text}"))
    unreached = {i for failures in missed.values() for i, _ in failures}
    reached, right = len(rows) - len(unreached), sum(right for _, right, *_ in asked)
    print(f"\n{name}, reward {reward_name}: {len(rows)} golds, {right / len(rows):.1f} forms each")
    print(f"  reached by every form: {reached} ({reached / len(rows):.1%})")
    print(f"  wrong options that pass: {len(passed)} of {len(asked) - right}")
    for i, text in passed[:examples]:
        print(f"    row {i}, gold {rows[i][1]!r:.200}: {text!r}")
    for form, failures in sorted(missed.items(), key=lambda item: -len(item[1])):
        print(f"  {form}: {len(failures)} golds fail")
        for i, text in failures[:examples]:
            print(f"    row {i}, gold {rows[i][1]!r:.200}: {text!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the two data sets")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="failures shown of each form")
    options = parser.parse_args()
    found = {path: how for path, how in SETS.items() if (options.data / path).is_file()}
    if not found:
        parser.exit(2, f"{options.data} holds none of {', '.join(SETS)}\n")
    for path, (read, reward_name) in found.items():
        measure(path, list(read(options.data / path)), reward_name, options.examples)


if __name__ == "__main__":
    main()
