"""All lines of a mapping but its source, guessed from some rows of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.columns import SPLIT
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.sources import Table, canonical_split
from gmpo_vl.data.start import answers, chats, columns, paths
from gmpo_vl.data.start.names import Guess, Sample, named, read_sample
from gmpo_vl.data.start.pictures import (
    choices_in_pictures,
    guess_folder,
    guess_images,
    guess_marks,
    lost_pictures,
    picture_names,
)
from gmpo_vl.data.start.run import CHART_TOLERANCE, is_chart

_SPLITS = ("split", "subset", "partition", "fold", "set")  # words in the names of columns that name them
_MOST_SPLITS = 8


def guess_mapping(
    sample: Sample,
    tables: Mapping[str, Sequence[Table]],
    source: str,
    image_folder: str | None,
    folder: Path,
    called: Sequence[str],
) -> list[Guess]:
    """The mapping's lines but for the source, in their order. called: names of the set and of its columns."""
    place = Path(source) if image_folder is None else folder / image_folder
    images = guess_images(sample, place)
    images = images or chats.guess_images_in_chat(sample)
    held = [] if images is None else images.value if isinstance(images.value, list) else [images.value]
    problem = columns.guess_problem(sample, held)
    taken = [*held, *([problem.value] if problem.value in sample.columns else [])]
    drawn = choices_in_pictures(sample)
    choices = columns.guess_choices(sample, [*taken, *drawn])
    answer = answers.guess_answer(sample, [*taken, *columns_named(choices)], choices, problem)
    choices = choices or columns.guess_choices_in(sample, problem, answer)
    begin = folder if image_folder is None else place
    guesses = [
        images or paths.with_ending(sample, place, begin) or lost_pictures(sample, source),
        *_folder_guess(sample, tables, images, source, image_folder, folder),
        problem,
    ]
    if images is not None and problem.value is not None:
        guesses += guess_marks(*_marked(sample, held, problem, choices))
    guesses += [answer, choices, choices and answers.guess_answer_is(sample, choices, answer)]
    if drawn and choices is None:
        why = (
            f"{drawn[0]!r} holds pictures: show them in `images` and `problem` and take this line away, as "
            "docs/data.md does under Choices; `answer` must be a letter"
        )
        guesses.append(Guess("choices", None, why))
    elif choices is None:
        guesses.append(columns.unread_choices(sample, [*taken, *columns_named(answer)]))
    told = [*taken, *columns_named(answer), *columns_named(choices)]
    guesses += [_tolerance(sample, answer, choices, called), _id(sample, tables)]
    guesses.append(_split(sample, tables, told))
    guesses.append(answers.guess_keep(sample, answer, choices))
    return [guess for guess in guesses if guess is not None]


def columns_named(guess: Guess | None) -> list[str]:
    return [] if guess is None else guess.value if isinstance(guess.value, list) else [guess.value]


def _folder_guess(
    sample: Sample,
    tables: Mapping[str, Sequence[Table]],
    images: Guess | None,
    source: str,
    image_folder: str | None,
    folder: Path,
) -> list[Guess | None]:
    if image_folder is not None:
        return [Guess("image_folder", image_folder, "as given")]
    if images is None or not Path(source).exists():  # a hub's set brings its pictures along
        return []
    samples = [read_sample(of) for of in tables.values()] if picture_names(sample, images) else []
    names = [name for other in samples for name in picture_names(other, images)]

    def advise(places: Sequence[Path]) -> str:
        several = isinstance(images.value, list)
        template = None if several else paths.in_folder_of_column(sample, images.value, places, folder)
        if template is None:
            return "name the one that is meant; for several, a mapping each that reads the rows of one"
        return f'a column says which: write images: "{template}" and take this line away'

    return [guess_folder(names, Path(source), folder, advise)] if names else []


def _marked(
    sample: Sample, held: list[str], problem: Guess, choices: Guess | None
) -> tuple[list[str], list[int]]:
    """(text, number of pictures) of each row, for the marks."""
    shown = [sample.values(name) for name in (problem.value, *columns_named(choices))]
    texts = [" ".join(str(value) for value in row if value is not None) for row in zip(*shown)]
    pictures = [[value for value in row if value is not None] for row in zip(*map(sample.values, held))]
    return texts, [sum(len(v) if isinstance(v, list | tuple) else 1 for v in row) for row in pictures]


def _tolerance(sample: Sample, answer: Guess, choices: Guess | None, called: Sequence[str]) -> Guess | None:
    for name in named(sample.columns, ("tolerance", "relative_tolerance", "rel_tol")):
        values = set(map(str, sample.filled(name)))
        if len(values) == 1 and re.fullmatch(r"0?\.\d+", value := next(iter(values))):
            return Guess("tolerance", float(value), f"the value of {name!r} in every row")
    if choices is None and answer.value is not None and is_chart(called):
        return Guess("tolerance", CHART_TOLERANCE, "values read off a chart, as in ChartQA")
    return None


def _id(sample: Sample, tables: Mapping[str, Sequence[Table]]) -> Guess | None:
    for name in columns.id_columns(sample):
        if all(_is_unique(name, of) for of in tables.values()):
            return Guess("id", name, "its name, and another value in every row")
    return None


def _is_unique(name: str, tables: Sequence[Table]) -> bool:
    seen: set[str] = set()
    for table in tables:
        for row in table.rows.scan([name]):
            value = None if isinstance(row, RowError) else row.get(name)
            if value is not None and str(value) in seen:
                return False
            seen.add(str(value))
    return True


def _split(sample: Sample, tables: Mapping[str, Sequence[Table]], taken: Sequence[str]) -> Guess | None:
    """A column that names splits, train and another one among them, whatever it is called (DUDE has
    data_split). One that is called after splits may name others, too, such as testmini. taken: columns that
    hold something else.
    """
    if len(tables) > 1:
        return None
    usual = [name for name in named(sample.columns, _SPLITS, _SPLITS, about=True) if name not in taken]
    free = [name for name in sample.columns if name not in (*usual, *taken)]
    for name in (*usual, *free):
        found = {_split_word(value, name in usual) for value in sample.values(name)}
        if {"train"} < found and None not in found and len(found) <= _MOST_SPLITS:
            return Guess("split_column", name, f"its values: {', '.join(sorted(map(str, found)))}")
    return None


def _split_word(value: Any, is_usual: bool) -> str | None:
    """The split that `convert` makes of a value; None for what names none. is_usual: any word does."""
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    return canonical_split(word) or (word if is_usual and SPLIT.fullmatch(word) else None)
