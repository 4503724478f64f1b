"""Answers that are the same make one cluster, whatever their spelling and order, and no gold is asked."""

import random

import pytest

from gmpo_vl.evaluation.results import figures
from gmpo_vl.samples import SampleRecord
from gmpo_vl.verify import equivalence, verify
from gmpo_vl.verify.equivalence import clusters

SAME = [
    ["1/2", "0.5", r"\frac{1}{2}", r"\dfrac12", r"x = \frac{1}{2}"],
    ["2", "2.0", "$2$", r"\boxed{2}".removeprefix(r"\boxed{").removesuffix("}"), "2."],
    [r"5\sqrt{2}", r"\sqrt{50}", r"\frac{10}{\sqrt{2}}"],
    ["x+1", "1 + x"],
    ["(1, 2)", r"\left(1,2\right)"],
    ["1, 3", "3, 1"],
    ["12 cm", r"12\text{ cm}", "12"],
    ["yes", "Yes"],
]


def groups(answers, choices=()):
    """Clusters as sets of answers, for comparison whatever their numbers."""
    named = {}
    for answer, number in zip(answers, clusters(answers, choices)):
        named.setdefault(number, set()).add(answer)
    return sorted(map(sorted, (group for number, group in named.items() if number is not None)))


def test_one_value_is_one_cluster_and_the_order_of_the_samples_does_not_matter():
    answers = [answer for group in SAME for answer in group]
    expected = sorted(sorted(set(group)) for group in SAME)
    draw = random.Random(0)
    for _ in range(5):
        draw.shuffle(answers)
        assert groups(answers) == expected


def test_where_sameness_is_not_transitive_a_cluster_holds_only_answers_that_are_all_the_same():
    assert groups(["50%", "50", "0.5"]) in ([["0.5"], ["50", "50%"]], [["0.5", "50%"], ["50"]])
    for votes in (["50%", "50", "50", "0.5"], ["50", "0.5", "50%", "50"]):
        assert groups(votes) == [["0.5"], ["50", "50%"]], "the more frequent spelling comes first"
    assert clusters(["50", "0.5"]) in ([0, 1], [1, 0])


def test_no_answer_has_no_cluster():
    assert clusters([None, "", "  ", "3"]) == [None, None, None, 0]


def test_a_letter_and_its_text_are_one_answer_where_the_options_are_known():
    options = ("12 cm", "15 cm", "18 cm")
    assert groups(["C", "(C)", "18 cm", "B"], options) == [["(C)", "18 cm", "C"], ["B"]]
    assert groups(["C", "18 cm"]) == [["18 cm"], ["C"]]


def samples(gold, answers):
    for k, answer in enumerate(answers):
        verdict = verify(gold, "" if answer is None else rf"\boxed{{{answer}}}")
        yield SampleRecord(
            id="q", group="q", k=k, prompt="", images=[], response="", finished=True, gold=gold, seed=k,
            length=1,
            extracted=verdict.extracted, gold_type=verdict.gold_type, correct=verdict.correct,
            outcome=verdict.outcome,
            reward={"overall": float(verdict.correct)},
        )  # fmt: skip


def test_nine_right_samples_in_three_spellings_win_over_four_equal_wrong_ones():
    answers = ["1/2"] * 3 + ["0.5"] * 3 + [r"\frac{1}{2}"] * 3 + ["2"] * 4 + [None] * 3
    found = figures(list(samples(r"\frac{1}{2}", answers)), 16)
    assert found["maj@k"]["16"]["value"] == 1.0
    assert found["pass@1"] == pytest.approx(9 / 16)


def test_a_tie_counts_in_expectation():
    found = figures(list(samples("7", ["7", "7.0", "8", "8.0"])), 4)
    assert found["maj@k"]["4"]["value"] == 0.5


SIGNS = r"""1 2 3 4 10 12 0 0.5 1.5 5 / - + * ^ ( ) {2} {3} ^2
    \frac \frac{1}{2} \frac12 \sqrt{2} \sqrt \pi \cdot 1/3 2/6 . %""".split()
OTHERS = [
    "50%",
    "50",
    "x=0.5",
    "x + 1",
    "1+x",
    "yes",
    "A",
    "12 cm",
    "1, 2",
    "(1,2)",
    "10:30",
    "20-30",
    "1/2/34",
    "0.3333333333",
]
OTHERS += [
    "0.33333333333",
    "1/3",
    "1.000000001",
    "1",
    "3:1",
    "1 000",
    "1,000",
    "-0.0",
    "0",
    r"\infty",
    "2i",
    "9^9^9^9",
    "0/0",
]


def number(draw: random.Random, depth: int = 2) -> str:
    """A number in one of many spellings, of few values, so that some are equal."""
    if depth == 0 or draw.random() < 0.2:
        return draw.choice(["0", "1", "2", "3", "4", "6", "12", "0.5", "0.25", "1.5"])
    one, two = number(draw, depth - 1), number(draw, depth - 1)
    forms = r"\frac{%s}{%s} %s/%s %s+%s %s-%s %s\cdot%s (%s)(%s) %s\sqrt{%s} (%s)^{%s}".split()
    return draw.choice(["-" + one, rf"{one}\pi", *(form % (one, two) for form in forms)])


def spelling(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.6:
        return number(draw)
    if kind < 0.8:
        return draw.choice(["", " "]).join(draw.choice(SIGNS) for _ in range(draw.randint(1, 6)))
    return draw.choice(OTHERS)


def test_values_known_beforehand_change_no_cluster(monkeypatch):
    """Random answers, clustered with the shortcuts and by the strict profile alone."""
    draw = random.Random(0)
    questions = [[spelling(draw) for _ in range(24)] for _ in range(60)]
    found = [clusters(answers) for answers in questions]
    known = [equivalence._value_of(answer) for answers in questions for answer in answers]
    assert sum(rough is not None for rough, _ in known) > len(known) / 3
    monkeypatch.setattr(equivalence, "_value_of", lambda spelling: (None, None))
    assert [clusters(answers) for answers in questions] == found
    assert any(len(set(numbers)) < len(set(answers)) for numbers, answers in zip(found, questions))


def test_values_are_known_of_plain_arithmetic_alone():
    for text in (
        "12 cm",
        "50%",
        "x",
        "1, 2",
        "(1, 2)",
        "20-30",
        "12/05/2020",
        "21-14",
        "10:30",
        "2i",
        "yes",
        "1/0",
        "9^9^9^9",
        "45^\\circ",
    ):
        assert equivalence._value_of(text) == (None, None), text


def test_answers_with_values_that_are_apart_or_equal_are_not_judged(monkeypatch):
    """What makes 256 samples quick: the pairs that the strict profile is asked for."""
    asked = []
    judge = equivalence._accepts
    monkeypatch.setattr(equivalence, "_accepts", lambda *pair: asked.append(pair) or judge(*pair))
    distinct = [rf"\frac{{{k}}}{{257}}" for k in range(1, 129)]
    equal = [rf"\frac{{{k}}}{{{2 * k}}}" for k in range(1, 129)]
    assert len(set(clusters(distinct + equal))) == 129
    assert asked == []
    assert groups(["1/3", "0.33333333333", "0.3"]) == [["0.3"], ["0.33333333333", "1/3"]]
    said = {frozenset((gold.alternatives[0], answer)) for gold, answer in asked}
    assert said == {frozenset(("1/3", "0.33333333333"))}
