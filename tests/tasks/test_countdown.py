"""CountDown puzzles: solvable, exact, the same for a seed, no puzzle in two splits."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import Columns, DataError
from gmpo_vl.tasks.countdown.data import (
    PUBLIC,
    SHARES,
    TINY,
    Rules,
    draw_puzzles,
    every_puzzle,
    export,
    reaches,
    row_of,
    split_of,
)
from gmpo_vl.verify import verify
from gmpo_vl.verify.arithmetic import evaluate
from gmpo_vl.verify.countdown import expressions, solve
from gmpo_vl.verify.parse import parse


def right(row, answer) -> bool:
    return verify(row["answer"], f"<answer>{answer}</answer>", answer_in="tag").correct


@settings(max_examples=25)
@given(st.lists(st.integers(1, 25), min_size=2, max_size=3))
def test_an_expression_is_written_as_what_it_is_worth(numbers):
    for expression in expressions(numbers):
        assert evaluate(parse(str(expression))) == expression.value


@settings(max_examples=15)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_what_is_reached_in_whole_numbers_is_what_exact_fractions_reach(numbers):
    every = {expression.value for expression in expressions(numbers)}
    for target in range(-3, 40):
        assert reaches([(number, 1) for number in numbers], target) == (target in every)


def test_solving_is_exact():
    solution = solve((8, 3, 8, 3), 24)
    assert solution is not None
    assert solution.value == 24
    assert "/" in str(solution), "only a division by a third gets there"
    assert solve((1, 1), 3) is None
    assert solve((Fraction(1, 2), 4), 2) is not None


@pytest.mark.parametrize("rules", [PUBLIC, TINY], ids=["public", "tiny"])
def test_puzzles_follow_their_rules_and_their_solution_is_right(rules):
    puzzles = list(draw_puzzles("train", 30, rules))
    assert puzzles == list(draw_puzzles("train", 30, rules)) != list(draw_puzzles("train", 30, rules, seed=1))
    assert len({puzzle.key for puzzle in puzzles}) == 30
    for puzzle in puzzles:
        assert len(puzzle.numbers) in rules.sizes
        assert all(1 <= number <= rules.largest for number in puzzle.numbers)
        assert rules.targets[0] <= puzzle.target <= rules.targets[1]
        assert split_of(puzzle) == "train"
        row = row_of(puzzle, rules)
        solution = solve(puzzle.numbers, puzzle.target)
        assert right(row, solution)
        assert not right(row, f"{solution}+0")
        assert str(puzzle.target) in row["problem"]
        assert ", ".join(map(str, puzzle.numbers)) in row["problem"]


def test_splits_share_no_puzzle_and_hold_their_shares():
    every = {split: {puzzle.key for puzzle in every_puzzle(split, TINY)} for split in SHARES}
    total = sum(map(len, every.values()))
    assert total == len(set().union(*every.values()))
    for split, share in SHARES.items():
        assert len(every[split]) / total == pytest.approx(share, abs=0.03)
    drawn = {puzzle.key for puzzle in draw_puzzles("test", len(every["test"]), TINY, seed=5)}
    assert drawn == every["test"]


def test_more_puzzles_than_there_are_is_an_error():
    with pytest.raises(DataError, match="validation has 165 puzzles"):
        list(draw_puzzles("validation", 200, TINY))
    none = Rules(sizes=(2,), largest=200, targets=(50_000, 50_000))
    with pytest.raises(DataError, match="after 0 puzzles of train no other was found"):
        list(draw_puzzles("train", 1, none))


def test_exported_rows_load_as_examples(tmp_path):
    files = export(tmp_path, {"train": 12, "test": 6}, TINY)
    assert [path.name for path in files] == ["train.parquet", "test.parquet"]
    examples = load_examples(str(files[0]), Columns())
    assert len(examples) == 12
    assert not examples[0].images


def test_the_public_set_looks_as_the_rules_say(data_dir):
    import pyarrow.parquet as pq

    path = data_dir / "countdown" / "train_11000.parquet"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = pq.read_table(path).slice(0, 400).to_pylist()
    assert {len(row["nums"]) for row in rows} == set(PUBLIC.sizes)
    assert all(1 <= number <= PUBLIC.largest for row in rows for number in row["nums"])
    assert all(PUBLIC.targets[0] <= row["target"] <= PUBLIC.targets[1] for row in rows)
    assert all(reaches([(number, 1) for number in row["nums"]], row["target"]) for row in rows)
    ours = Counter(len(puzzle.numbers) for puzzle in draw_puzzles("train", 60))
    assert set(ours) == set(PUBLIC.sizes)
