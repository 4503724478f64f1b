"""Grading files: pairs of gold and response to verdicts, for `gmpo-vl grade PAIRS.jsonl [--out FILE]`."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from gmpo_vl.data.answers import LETTERS, encode_answer
from gmpo_vl.data.formats.text import open_text
from gmpo_vl.storage.files import whole_file
from gmpo_vl.verify import Gold, Profile, Verdict, parse_gold, verify_batch

CHUNK = 2_000  # pairs held at a time
MAX_TOLD = 20  # lines that are not graded, one by one
MAX_LINE = 1 << 24  # characters
SHOWN = 60  # characters of an answer on the terminal
# Verdicts of pairs, each with the parts of a reward.
Judge = Callable[[Sequence[dict[str, Any]]], Sequence[tuple[Verdict, dict[str, float]]]]
FORM = r"""A file to grade has one JSON object a line: {"gold": "5", "response": "It is \\boxed{5}."}"""
ANSWER_MARKS = {"box": "\\boxed", "tag": "<answer>"}


@dataclass(frozen=True)
class Verifier:
    """The verifier as the judge of pairs.

    answer_in: where a response has its answer, `box`, `tag` or `any`. workers: processes for undecided
    answers, 0 for none. Raises ValueError for fewer.
    """

    profile: Profile = "strict"
    answer_in: str = "box"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers={self.workers} cannot be: processes for undecided answers, 0 for none")

    def __call__(self, pairs: Sequence[dict[str, Any]]) -> list[tuple[Verdict, dict[str, float]]]:
        verdicts = verify_batch(
            [pair["gold"] for pair in pairs],
            [pair["response"] for pair in pairs],
            self.profile,
            benchmark=[str(pair.get("benchmark", "")) for pair in pairs],
            answer_in=self.answer_in,
            workers=self.workers,
        )
        return [(verdict, {}) for verdict in verdicts]


def grade_file(
    pairs: str | Path,
    out: str | Path | None = None,
    judge: Judge = Verifier(),
    tell: Callable[[str], None] = print,
) -> Counter[str]:
    """Grade every line of `pairs`, write one verdict a line to `out` in the same order, count the outcomes.
    Without `out` the verdicts are printed, for people.

    A line that is no pair costs itself: `tell` gets its place and what is wrong; it counts as `not_graded`.
    It is also told what a file that is not UTF-8 was read as, and where most responses have no answer in the
    place where the verifier reads it but in the other one.

    In: `gold` (text, number, list of alternatives, or the object that `encode_answer` writes), `response`,
    and optionally `choices` (the options' texts), `id` (else its line's number, from 1) and `benchmark`.
    Out: `id`, `correct`, `extracted`, `gold_type`, `outcome`, `seconds`, and of a judge's pairs `reward` (its
    parts). The counts add `correct`, `total`.
    Raises ValueError for an empty file, or where no line is a pair, naming the first; `out` then stays.
    """
    if out is not None and Path(pairs).resolve() == Path(out).resolve():
        raise ValueError(f"the verdicts would overwrite the pairs: both are {pairs}")
    counts: Counter[str] = Counter()
    reasons: list[str] = []
    elsewhere = 0
    asked = judge.answer_in if isinstance(judge, Verifier) else None
    other = "tag" if asked == "box" else "box"

    def skip(number: int, reason: str) -> None:
        counts["not_graded"] += 1
        if counts["not_graded"] <= MAX_TOLD:
            reasons.append(f"{pairs}, line {number}: {reason}")

    with _lines(out) as write, _opened(Path(pairs), tell) as file:
        for row, verdict, parts in _graded(_pairs(file, skip), judge):
            write((verdict_in_words if out is None else _as_json)(row, verdict, parts))
            lacks_answer = asked in ANSWER_MARKS and verdict.outcome == "no_answer"
            elsewhere += lacks_answer and ANSWER_MARKS[other] in row["response"]
            counts.update([verdict.outcome, "total", *(["correct"] if verdict.correct else [])])
        if not counts["total"]:
            empty = f"{pairs} is empty: no pair to grade"
            raise ValueError(f"no line can be graded: {reasons[0]}. {FORM}" if reasons else empty)
    for reason in reasons:  # told when it is known that the file holds pairs at all
        tell(f"{reason}; not graded")
    if counts["not_graded"] > MAX_TOLD:
        tell(f"... and {counts['not_graded'] - MAX_TOLD:,} more lines that were not graded")
    if 2 * elsewhere > counts["total"]:
        tell(
            f"{elsewhere} responses have no answer in the {asked} but write {ANSWER_MARKS[other]}: "
            f"--answer-in {other} reads that"
        )
    return counts


def _graded(
    pairs: Iterator[dict[str, Any]], judge: Judge
) -> Iterator[tuple[dict[str, Any], Verdict, dict[str, float]]]:
    """Every pair with its verdict and parts, in order; CHUNK of them are held at a time."""
    while rows := list(islice(pairs, CHUNK)):
        for row, (verdict, parts) in zip(rows, judge(rows), strict=True):
            yield row, verdict, parts


def verdict_in_words(row: dict[str, Any], verdict: Verdict, parts: dict[str, float]) -> str:
    """`right  equal      q1  42`, of a wrong answer also the gold, and a reward's parts."""
    read = "-" if verdict.extracted is None else _short(verdict.extracted)
    gold = "" if verdict.correct else f"  (gold {_short(' or '.join(parse_gold(row['gold']).answers))})"
    word = "right" if verdict.correct else "wrong"
    return (
        f"{word}  {verdict.outcome.replace('_', ' '):10}  {_short(str(row['id'])):12}  {read}{gold}"
        + "".join(f"  {part} {value:g}" for part, value in parts.items())
    )


def _short(text: str) -> str:
    """On one line, without what moves a terminal's cursor."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _as_json(row: dict[str, Any], verdict: Verdict, parts: dict[str, float]) -> str:
    record = {"id": row["id"], **asdict(verdict), "seconds": round(verdict.seconds, 6)}
    record |= {"reward": parts} if parts else {}
    return json.dumps(record, ensure_ascii=False)


@contextmanager
def _lines(out: str | Path | None) -> Iterator[Callable[[str], object]]:
    """What writes a line: to a file, which is whole or not there, or to the terminal."""
    if out is None:
        yield print
        return
    with whole_file(_place_of(Path(out))) as partial, partial.open("w", encoding="utf-8") as file:
        yield lambda line: file.write(line + "\n")


def _place_of(out: Path) -> Path:
    """Where the verdicts are written: a link stays one. Raises ValueError where no file can be written."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; the verdicts need the name of a file")
    # `/dev/stdout` and `/dev/fd/1` are links to a stream, which may be a file's.
    is_stream = out.is_symlink() and out.absolute().is_relative_to("/dev")
    if out.exists() and (is_stream or not out.is_file()):
        raise ValueError(f"{out} is a pipe or a device; the verdicts need the name of a file")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}; make it, or name another")
    return out.resolve()


def summary(counts: Counter[str]) -> str:
    """The counts as people read them: `812 of 1755 correct (46.3%); equal 812, different 700, ...`."""
    total = counts["total"]
    others = ("total", "correct", "not_graded")
    outcomes = ", ".join(f"{name} {n}" for name, n in counts.most_common() if name not in others)
    left = f"; {counts['not_graded']:,} lines were not graded" if counts["not_graded"] else ""
    share = f" ({counts['correct'] / total:.1%})" if total else ""
    return f"{counts['correct']} of {total} correct{share}; {outcomes or 'no pairs'}{left}"


@contextmanager
def _opened(path: Path, tell: Callable[[str], None]) -> Iterator[TextIO]:
    """The text of a file in any encoding that data files are read in; of a pipe, which is read once, UTF-8.

    Raises ValueError where there is none. Bytes that are no UTF-8 become surrogates, which `loaded` refuses.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file with one JSON object a line")
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    content: BinaryIO
    if path.is_file():
        with path.open("rb") as start:
            is_parquet = start.read(4) == b"PAR1"
        if is_parquet:
            raise ValueError(f"{path} is a parquet file. {FORM}")
        text = open_text(path)
        for note in text.notes:
            tell(f"{path}: {note}")
        content = text.open()
    else:
        content = path.open("rb")
    with io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape") as file:
        yield file


def _pairs(file: TextIO, skip: Callable[[int, str], None]) -> Iterator[dict[str, Any]]:
    """The pairs of a file; `skip` is told number and reason of every line that is none."""
    for number, line in _numbered_lines(file):
        try:
            row = _checked(loaded(line), number)
        except ValueError as error:
            skip(number, str(error))
        else:
            yield row


def _numbered_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Line numbers and lines, but for blank ones; of a line that is too long, its beginning."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE and not line.endswith("\n"):
            while (rest := file.readline(MAX_LINE)) and not rest.endswith("\n"):
                pass
        if line.strip():
            yield number, line


def loaded(line: str) -> Any:
    """A line's JSON. Raises ValueError that says what is wrong with it."""
    if len(line) > MAX_LINE:
        raise ValueError(f"it has more than {MAX_LINE:,} characters")
    if not _is_text(line):
        raise ValueError("it is not UTF-8")
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    except ValueError as error:  # a number with thousands of digits
        raise ValueError(f"a number in it is too long ({error})") from error


def _checked(row: Any, number: int) -> dict[str, Any]:
    if not isinstance(row, dict) or "gold" not in row or "response" not in row:
        found = f"the keys {sorted(row)}" if isinstance(row, dict) else f"a {type(row).__name__}"
        raise ValueError(f"a pair is an object with `gold` and a text `response`; it has {found[:200]}")
    if not isinstance(row["response"], str):
        raise ValueError(f"`response` is {json.dumps(row['response'])[:60]}, not a text")
    pair = {"id": number, **row, "gold": _with_choices(row)}
    for key in ("id", "response"):  # the id is written again
        _check_writable(key, pair[key])
    read_gold(pair["gold"])
    return pair


def _with_choices(row: dict[str, Any]) -> Any:
    """The row's gold; an object as its JSON text, and with the texts of `choices` where they stand beside it.
    Raises ValueError for choices that are no texts, and a letter that is none of theirs."""
    gold, choices = row["gold"], row.get("choices")
    if isinstance(gold, dict):
        return json.dumps(gold, ensure_ascii=False) if "gold" in gold else gold
    if not choices:
        return gold
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        raise ValueError(f"its `choices` are {json.dumps(choices)[:60]}, not a list of texts")
    if not isinstance(gold, str):
        return encode_answer(gold, choices=choices)
    letter = gold.strip(" ().")
    if letter in tuple(LETTERS[len(choices) :]) and letter not in choices:
        raise ValueError(f"the gold {gold!r} names none of its {len(choices)} choices")
    return gold if gold.lstrip().startswith("{") else encode_answer(gold, choices=choices)


def read_gold(value: Any) -> Gold:
    """A gold as it stands in a file. Raises ValueError for one that can verify nothing."""
    gold = parse_gold(value)
    _check_writable("gold", value)
    return gold


def _check_writable(key: str, value: Any) -> None:
    """Raises ValueError for a value that no JSON file can hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise ValueError(f"its `{key}` is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"its `{key}` holds NaN or an infinite number, which JSON does not have") from error
    if not _is_text(text):
        raise ValueError(f"its `{key}` holds half of a surrogate pair, which is no text")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
