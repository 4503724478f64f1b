"""Sets of numbers: a written set is accepted for another exactly where both hold the same numbers."""

import random
from collections.abc import Callable
from fractions import Fraction

from gmpo_vl.verify import verify

Member = Callable[[Fraction], bool]
POINTS = [Fraction(k, 4) for k in range(-44, 45)] + [Fraction(-1000), Fraction(1000)]


def interval(draw: random.Random) -> tuple[str, Member]:
    low, high = sorted(draw.sample(range(-3, 4), 2))
    opening, closing = draw.choice("(["), draw.choice(")]")
    inside = [
        lambda x: (x > low or (x == low and opening == "[")) and (x < high or (x == high and closing == "]")),
        lambda x: x > low or (x == low and opening == "["),
        lambda x: x < high or (x == high and closing == "]"),
    ]
    texts = [f"{opening}{low},{high}{closing}", rf"{opening}{low},\infty)", rf"(-\infty,{high}{closing}"]
    which = draw.randrange(3)
    return texts[which], inside[which]


def inequality(draw: random.Random) -> tuple[str, Member]:
    end, factor = draw.randint(-3, 3), draw.choice([-2, -1, 1, 3])
    sign, holds = draw.choice(
        [("<", Fraction.__lt__), (r"\le", Fraction.__le__), (">", Fraction.__gt__), (r"\ge", Fraction.__ge__)]
    )
    left = {1: "x", -1: "-x"}.get(factor, f"{factor}x")
    form = draw.randrange(4)
    if form == 0:
        return rf"{left} {sign} {factor * end}", lambda x: holds(factor * x, Fraction(factor * end))
    if form == 1:
        return rf"|x - {abs(end)}| {sign} 2", lambda x: holds(abs(x - abs(end)), Fraction(2))
    if form == 2:
        return rf"x \ne {end}", lambda x: x != end
    return rf"\{{x \mid {left} + 1 {sign} {end}\}}", lambda x: holds(factor * x + 1, Fraction(end))


def written_set(draw: random.Random) -> tuple[str, Member]:
    form = draw.randrange(6)
    if form < 2:
        return inequality(draw)
    (one, in_one), (two, in_two) = interval(draw), interval(draw)
    if form == 2:
        return one, in_one
    if form == 3:
        return rf"{one} \cup {two}", lambda x: in_one(x) or in_two(x)
    if form == 4:
        return rf"{one} \cap {two}", lambda x: in_one(x) and in_two(x)
    point = draw.randint(-3, 3)
    return rf"{one} \setminus \{{{point}\}}", lambda x: in_one(x) and x != point


def test_sets_are_the_same_where_they_hold_the_same_numbers():
    draw = random.Random(0)
    sets = [written_set(draw) for _ in range(75)]
    held = [tuple(x for x in POINTS if member(x)) for _, member in sets]
    for (gold, _), ours in zip(sets, held):
        for (answer, _), theirs in zip(sets, held):
            if not ours and not theirs:
                continue  # of two empty sets no form need be read
            accepted = verify(gold, rf"\boxed{{{answer}}}").correct
            assert accepted == (ours == theirs), (gold, answer)
    equal = sum(ours == theirs for ours in held for theirs in held) - len(held)
    assert equal > 50, "hardly any two sets are the same"


def test_two_inequalities_with_a_comma_are_a_bounded_interval_or_what_they_were():
    two = r"x > -2, x \le 5"
    for one in (r"-2 < x \le 5", "(-2, 5]", two, r"x \le 5 \text{ and } x > -2"):
        assert verify(one, rf"\boxed{{{two}}}").correct
        assert verify(two, rf"\boxed{{{one}}}").correct
    outside = "x < -2, x > 5"  # either of them, as they always were
    assert verify("x < -2 or x > 5", rf"\boxed{{{outside}}}").correct
    for gold, answer in (
        (r"-2 < x \le 5", "x > -2, x < 5"), (r"-2 < x \le 5", r"x > -2, y \le 5"), ("x > 5", "x > 2, x > 5"),
        (two, r"x > -2 or x \le 5"), ("(3, 5)", "0 < x < 5, 3 < x < 8"), ("-2 < x < 5", outside),
    ):  # fmt: skip
        assert not verify(gold, rf"\boxed{{{answer}}}").correct
