"""Every benchmark of pictures with 16 answers a question: the best, the worst, the most frequent of them, and
what the benchmark counts, over passes."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS

from gmpo_vl.cli.result_words import print_results
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.templates import answer_place, load_template
from gmpo_vl.evaluation.aggregates import aggregated
from gmpo_vl.evaluation.benchmarks import write_benchmark
from gmpo_vl.evaluation.grading import regrade_folder
from gmpo_vl.evaluation.protocols import load_protocol, override
from gmpo_vl.evaluation.result_page import write_result_page
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import write_json
from gmpo_vl.types import Example
from gmpo_vl.verify import parse_gold, verify

N = 16
WRONG = ("A", "B", "C", "No", "Yes", "987654")


def spellings(example: Example) -> tuple[list[str], str]:
    """(the right answer as a letter and as a text, or as it is), and a wrong answer."""
    gold = parse_gold(example.answer)
    letters = [text for text in gold.alternatives if len(text) == 1 and "A" <= text <= "Z"]
    texts = [gold.choices[ord(letter) - ord("A")] for letter in letters if gold.choices]
    found = [*gold.alternatives, *texts]
    right = [text for text in found if verify(gold, f"\\boxed{{{text}}}").correct]
    return right, next(text for text in WRONG if not verify(gold, f"\\boxed{{{text}}}").correct)


def counts_of(questions: int) -> list[int]:
    """How many of a question's 16 answers are right: all and none among them, and a tie."""
    return [(N, 0, 8, 11, 5)[i % 5] for i in range(questions)]


@pytest.fixture
def answered(tmp_path):
    """The evaluation of a benchmark's rows: of each question some answers right, in all spellings, the rest
    equal and wrong, in an order of its own."""

    def make(name: str) -> EvaluationFolder:
        protocol = override(load_protocol(name), {"n": N, "temperature": 0.5})
        pq.write_table(pa.Table.from_pylist(ROWS[name]()), tmp_path / "rows.parquet")
        write_benchmark(name, [str(tmp_path / "rows.parquet")], tmp_path)
        examples = load_examples(str(tmp_path / f"{name}.parquet"))
        place = answer_place(load_template(protocol.format_prompt or "boxed")) or "box"
        records = []
        for i, (example, count) in enumerate(zip(examples, counts_of(len(examples)))):
            right, wrong = spellings(example)
            said = [right[k % len(right)] for k in range(count)] + [wrong] * (N - count)
            for k, text in enumerate(np.random.default_rng(i).permutation(said).tolist()):
                response = f"<answer>{text}</answer>" if place == "tag" else f"So \\boxed{{{text}}}."
                records.append(record_of(example, k, response))
        plan = {
            "name": protocol.name,
            "protocol": protocol.stated(),
            "questions": len(examples),
            "data": {"source": protocol.data, "rows": len(examples), "sha256": "", "pinned": None},
            "model": {"path": "model", "sha256": ""},
            "backend": {"name": "transformers", "dtype": "float32", "device": "cpu"},
            "versions": {},
            "template": {"name": "chat", "stop": None, "answer_in": place},
        }
        folder = EvaluationFolder(tmp_path / protocol.name).create()
        write_json(folder.plan_file, plan)
        folder.write_samples(records)
        assert regrade_folder(folder, processes=1) == (len(records), sum(counts_of(len(examples))))
        return folder

    return make


def record_of(example: Example, k: int, response: str) -> SampleRecord:
    return SampleRecord(
        id=example.id,
        group=example.id,
        k=k,
        prompt=example.problem,
        images=[],
        response=response,
        finished=True,
        gold=example.answer,
        extracted=None,
        gold_type="unknown",
        correct=False,
        outcome="different",
        reward={"overall": 0.0, "strict": 0.0},
        seed=k,
        length=9,
        meta=example.meta,
    )


@pytest.mark.parametrize("name", ROWS)
def test_sixteen_answers_are_counted_as_the_best_the_worst_and_the_most_frequent(name, answered, capsys):
    folder = answered(name)
    results = folder.results()
    count_Q = np.array(counts_of(results["questions"]))
    assert results["pass@1"] == pytest.approx(count_Q.mean() / N)
    assert [*results["pass@k"]] == [*results["maj@k"]] == [*results["all@k"]] == ["2", "4", "8", "16"]
    assert results["pass@k"]["16"]["value"] == pytest.approx((count_Q > 0).mean())
    assert results["all@k"]["16"]["value"] == pytest.approx((count_Q == N).mean())
    pairs = count_Q * (count_Q - 1) / (N * (N - 1))
    assert results["all@k"]["2"]["value"] == pytest.approx(pairs.mean())
    votes = np.sign(2 * count_Q - N) / 2 + 0.5  # a letter and its text are one answer
    assert results["maj@k"]["16"]["value"] == pytest.approx(votes.mean())
    print_results(results, folder.folder)
    said = capsys.readouterr().out
    assert f"@16 {100 * (count_Q == N).mean():.1f}" in next(x for x in said.splitlines() if "all@k" in x)
    assert "All@16" in write_result_page(folder).read_text()


@pytest.mark.parametrize("name", [name for name in ROWS if load_protocol(name).aggregate])
def test_a_benchmarks_own_counts_are_means_over_the_passes(name, answered):
    folder = answered(name)
    aggregate = load_protocol(name).aggregate or ""
    records = list(folder.samples())
    passes = [aggregated(aggregate, [replace(r, k=0) for r in records[k::N]], 1) for k in range(N)]
    for key, share in folder.results()["aggregates"].items():
        if not key.startswith("RM "):  # a rate over the problems solved, which no pass need have
            assert share["value"] == pytest.approx(np.mean([found[key]["value"] for found in passes])), key


def test_the_vote_of_options_takes_a_letter_and_its_text_as_one(answered):
    folder = answered("geometry3k_choices")
    first = [r for r in folder.samples() if r.id == next(folder.samples()).id]
    assert {r.extracted for r in first} == {"C", "\\sqrt { 3 }"}
    assert all(r.correct for r in first)
    assert folder.results()["maj@k"]["2"]["value"] > 0
