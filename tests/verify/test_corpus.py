"""The labelled corpus: gold strings of the benchmarks with answers that are right and nearly right."""

import json
from collections import Counter
from pathlib import Path

from gmpo_vl.verify import verify

CORPUS = [
    json.loads(line)
    for line in Path(__file__).with_name("corpus.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_no_wrong_answer_is_accepted_and_no_right_one_refused():
    wrong = [
        f"{'refused' if row['correct'] else 'ACCEPTED'} gold {row['gold']!r} answer {row['answer']!r}: "
        f"{verdict.outcome}"
        for row in CORPUS
        if (verdict := verify(row["gold"], f"So \\boxed{{{row['answer']}}}")).correct != row["correct"]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_wide_and_balanced():
    kinds = Counter(row["kind"] for row in CORPUS)
    assert len(CORPUS) > 1000
    assert len(kinds) >= 20
    assert all(
        any(r["correct"] == right for r in CORPUS if r["kind"] == kind)
        for kind in kinds
        for right in (True, False)
    )
    labels = {(row["gold"], row["answer"]): row["correct"] for row in CORPUS}
    assert len(labels) == len(CORPUS), "the same pair twice"
