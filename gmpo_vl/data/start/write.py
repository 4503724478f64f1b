"""`gmpo-vl data new`: from a table to a mapping, a run and an evaluation; or a Python file to start from."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gmpo_vl.data.columns import lacks_answers, rows_of_splits
from gmpo_vl.data.formats import ListRows
from gmpo_vl.data.grouping import Groups, key_of
from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import FOLDER, KEYS, PLACEHOLDER, MappingFile, as_template, is_template
from gmpo_vl.data.rows import Columns, DataError, Fault, RowError, RowFaults, example_from_row
from gmpo_vl.data.sources import Table, open_tables, parts_in, splits_in
from gmpo_vl.data.start.guesses import columns_named, guess_mapping
from gmpo_vl.data.start.names import Guess, Sample, read_sample
from gmpo_vl.data.start.run import TINY, RunPlan, plan_run
from gmpo_vl.storage.files import write_text

# Share of validation by the number of rows.
_SHARES = ((200, 0.2), (2_000, 0.1), (20_000, 0.05), (math.inf, 0.02))
# Of the keys that are not guessed.
_EXAMPLES = {
    "images": "image",
    "image_folder": "pictures",
    "image_marks": '"<image{n}>"',
    "image_place": "front",
    "max_image_pixels": "89478485",
    "choices": "options",
    "choices_written": "true",
    "answer_is": "letter",
    "answer_type": "text",
    "tolerance": "0.01",
    "id": "id",
    "keep": 'level >= 3 and split == "train"',
    "carry": "[level, subject]",
    "validation": "0.05",
    "split_by": "page",
    "split_column": "split",
}


@dataclass(frozen=True)
class Start:
    """What was written. guesses: the mapping's lines. asks: keys whose column the user must name."""

    files: list[Path]
    guesses: list[Guess]
    columns: list[str]
    rows_read: int
    faults: RowFaults = field(default_factory=RowFaults)

    @property
    def asks(self) -> list[str]:
        return [guess.key for guess in self.guesses if guess.value is None]

    @property
    def is_text_only(self) -> bool:
        return _is_text_only(self.guesses)


def write_start(
    name: str, source: str, model: str = TINY, image_folder: str | None = None, folder: str | Path = "."
) -> Start:
    """Write NAME.yaml, NAME_run.yaml and NAME_eval.yaml into `folder`, all of them or none.

    source: relative to the folder, like image_folder. Raises DataError for a file that exists, a name that
    can be no file's, and a source that cannot be read.
    """
    folder = Path(folder)
    files = [folder / f"{name}{end}.yaml" for end in ("", "_run", "_eval")]
    _check_new(name, files)
    if image_folder is not None and not (folder / image_folder).exists():
        raise DataError(f"--image-folder {image_folder}: there is no such folder")
    for tables, sources in _ways_to_open(source):
        sample = read_sample(tables[next(iter(tables))])
        called = [name, source, *sample.columns]
        guesses = [sources, *guess_mapping(sample, tables, source, image_folder, folder, called)]
        if any(guess.key == "answer" and guess.value is not None for guess in guesses):
            break
    splits, guesses = _without_unanswered(tables, sample, guesses)
    trial = _try(sample, guesses, folder)
    if "validation" not in splits and (share := _validation(trial, sample)):
        guesses.append(share)
        splits.append("validation")
    plan = plan_run(model, trial.mapped, _golds(sample, guesses), called, sample.total)
    asked = next(split for split in ("test", "validation", "train") if split in splits)
    texts = [
        _mapping_text(name, source, sample, guesses, splits),
        rendered("run", name=name, run=plan, model=_yaml(model), has_validation="validation" in splits),
        _evaluation_text(name, plan, asked),
    ]
    _write_all(files, texts)
    return Start(files, guesses, sample.columns, len(sample.rows), trial.faults)


def write_python_start(name: str, folder: str | Path = ".") -> Path:
    """Write NAME.py into `folder`. Raises DataError if it exists or would hide a module of that name."""
    path = Path(folder) / f"{name}.py"
    _check_new(name, [path])
    if importlib.util.find_spec(name) is not None:
        raise DataError(f"{path} would hide the module {name!r} from what is run here; take another name")
    _write_all([path], [rendered("prepare.py", name=name)])
    return path


def _check_new(name: str, files: Sequence[Path]) -> None:
    if not re.fullmatch(r"\w[\w-]{0,99}", name):
        raise DataError(f"the name {name!r} becomes a file's: letters, digits, - and _ only, 100 at most")
    if there := [str(path) for path in files if path.exists() or path.is_symlink()]:
        verb = "exists" if len(there) == 1 else "exist"
        raise DataError(f"{' and '.join(there)} {verb} already; take another name, or move it away")


def _write_all(files: Sequence[Path], texts: Sequence[str]) -> None:
    files[0].parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, text in zip(files, texts, strict=True):
            write_text(path, text)  # takes names that are no UTF-8; `convert` refuses such rows later
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise


# --- guesses ----------------------------------------------------------------------------------------------
def _open(source: str) -> tuple[dict[str, list[Table]], Guess]:
    """{split: its tables}, and the line of the mapping."""
    splits = splits_in(Path(source)) if Path(source).is_dir() else []
    if not splits or splits == ["train"]:
        return {"train": open_tables(source)}, Guess("source", source, "")
    parts = {split: f"{source}@{split}" for split in splits}
    if "train" not in parts:
        first, *others = splits
        why = f"there are no train rows: these are {first} rows, and a result on them is spoilt by training"
        parts = {"train": parts[first], **{split: parts[split] for split in others}}
    else:
        why = "the files are named after splits"
    return {split: open_tables(part) for split, part in parts.items()}, Guess("source", parts, why)


def _ways_to_open(source: str) -> Iterator[tuple[dict[str, list[Table]], Guess]]:
    """As `_open` does; then, for rows without answers, the parts of splits: MathVista tells the answers of
    testmini, and not those of test. At the end as `_open` does, where none has answers.
    """
    yield _open(source)
    parts = parts_in(Path(source)) if Path(source).is_dir() else []
    for part in parts:
        why = f"the answers of the other files are not told; a result on {part} is spoilt by training"
        named = f"{source}@{part}"
        yield {"train": open_tables(named)}, Guess("source", {"train": named}, why)
    if parts:
        yield _open(source)


def _without_unanswered(
    tables: Mapping[str, Sequence[Table]], sample: Sample, guesses: Sequence[Guess]
) -> tuple[list[str], list[Guess]]:
    """The splits whose rows have answers, and the mapping's lines for these alone; `convert` leaves out those
    that a column names.
    """
    lines = {guess.key: guess for guess in guesses}
    answer, column = lines["answer"].value, lines.get("split_column")
    first = next(iter(tables))
    parts = {split: (of, [range(len(table.rows)) for table in of]) for split, of in tables.items()}
    if column is not None:
        of = [Table("rows looked at", "", ListRows(sample.rows))]
        parts = {split: (of, rows) for split, rows in rows_of_splits(of, first, column.value).items()}
    lacking = [s for s, (of, rows) in parts.items() if answer and lacks_answers(of, rows, answer)]
    if not lacking or first in lacking or len(lacking) == len(parts):
        return list(parts), list(guesses)
    key = "source" if column is None else "split_column"
    line = lines[key]
    value = {s: v for s, v in line.value.items() if s not in lacking} if column is None else line.value
    why = f"{line.why}; LEFT OUT: {', '.join(lacking)}, of which no row has an answer in {answer!r}"
    replaced = Guess(key, value, why)
    return [s for s in parts if s not in lacking], [replaced if g is line else g for g in guesses]


def _golds(sample: Sample, guesses: Sequence[Guess]) -> list[Any]:
    values = {guess.key: guess.value for guess in guesses}
    if values["answer"] is None:
        return []
    kept = sample.values(as_template(values["keep"])) if "keep" in values else sample.rows
    golds = zip(sample.values(values["answer"]), kept)
    return [gold for gold, is_kept in golds if gold is not None and is_kept is not None]


# --- the guesses tried on the rows --------------------------------------------------------------------------
@dataclass
class _Trial:
    """The rows looked at, mapped: those that can be, the faults of the others."""

    mapped: list[dict[str, Any]] = field(default_factory=list)
    faults: RowFaults = field(default_factory=RowFaults)


def _try(sample: Sample, guesses: Sequence[Guess], folder: Path) -> _Trial:
    values = {guess.key: guess.value for guess in guesses if guess.value is not None}
    if "problem" not in values or "answer" not in values:
        return _Trial()
    trial, mapping = _Trial(), MappingFile(folder=folder, **values)
    ids = sample.values(values["id"]) if "id" in values else sample.rows
    called = [str(i) if "id" not in values or own is None else str(own) for i, own in enumerate(ids)]
    for number, (row, beside) in enumerate(zip(sample.rows, sample.folders)):
        try:
            mapped = map_row(row, mapping, beside)
            if mapped is None:
                continue
            example_from_row(mapped, Columns(image_dir=str(Path.cwd())), str(number))
        except RowError as error:
            fault = Fault("rows looked at", number, called[number], error.reason, str(error))
            trial.faults.append(fault)
        else:
            trial.mapped.append(mapped)
    return trial


def _validation(trial: _Trial, sample: Sample) -> Guess | None:
    """The share of the rows for validation. None where pictures connect all rows of the table, as far as
    their bytes and names tell.
    """
    groups = Groups()
    for mapped in trial.mapped:
        groups.add([key_of(repr(item).encode()) for item in mapped["images"] or [mapped["problem"]]])
    if len(sample.rows) == sample.total and len(set(groups.groups())) == 1:
        return None
    share = next(share for most, share in _SHARES if sample.total < most)
    return Guess("validation", share, "of the rows become validation.parquet, by their pictures")


def rendered(template: str, **values: Any) -> str:
    """A file of `files/`, named without its .yaml.jinja or .jinja."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gmpo_vl.data.start", "files"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    suffix = "" if template.endswith(".py") else ".yaml"
    return environment.get_template(f"{template}{suffix}.jinja").render(**values)


def _mapping_text(
    name: str, source: str, sample: Sample, guesses: Sequence[Guess], splits: Sequence[str]
) -> str:
    keys = [guess.key for guess in guesses if guess.value is not None]
    known = set(_used(guesses))
    free = [c for c in sample.columns if c not in known]
    examples = {**_EXAMPLES, **({"carry": _yaml(free[:4])} if free else {})}
    return rendered(
        "mapping",
        name=name,
        source=_line(source),
        others=", ".join(f"{split}.parquet" for split in splits if split != "train"),
        looked_at=len(sample.rows),
        total=f"{sample.total:,}",
        columns=[(_line(c), _shown(next(iter(sample.filled(c) or [None])))) for c in sample.columns],
        lines=[(g.key, *_value_and_why(g, free)) for g in guesses if g.value is not None or g.key in _NEEDED],
        is_text_only=_is_text_only(guesses),
        rest=[(key, examples[key], KEYS[key]) for key in KEYS if key in examples and key not in keys],
    )


_NEEDED = ("images", "image_folder", "problem", "answer", "choices")


def _is_text_only(guesses: Sequence[Guess]) -> bool:
    return all(guess.key != "images" for guess in guesses)


def _value_and_why(guess: Guess, free: Sequence[str]) -> tuple[str, str]:
    if guess.key == "image_folder" and guess.value is None:
        return FOLDER, _line(f"the folder of the pictures is to be named here ({guess.why})")
    if guess.value is None:
        return PLACEHOLDER, _line(f"a column is to be named here ({guess.why}): {', '.join(free)}")
    return _yaml(guess.value), _line(guess.why)


def _used(guesses: Sequence[Guess]) -> list[str]:
    """Columns, and the words of templates, that the guesses speak of."""
    values = [str(value) for guess in guesses if guess.key != "source" for value in columns_named(guess)]
    return [word for v in values for word in (re.findall(r"\w+", v) if is_template(v) else [v])]


def _evaluation_text(name: str, plan: RunPlan, split: str) -> str:
    return rendered(
        "evaluation",
        name=name,
        data=f"data/{name}/{split}.parquet",
        format_prompt=plan.format_prompt,
        max_prompt_length=plan.max_prompt_length,
        max_response_length=plan.max_response_length,
        min_pixels=None,
        max_pixels=plan.max_pixels,
        reward=plan.reward,
        reward_kwargs={},
    )


def _yaml(value: Any) -> str:
    """A value on one line, as YAML reads it back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return json.dumps(value) if "\n" in text else text


def _line(text: str) -> str:
    """On one line, without characters that YAML refuses even in a comment."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(str(text).split()))


def _shown(value: Any) -> str:
    """A value in a few words, on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_shown(v)}' for k, v in list(value.items())[:4])}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value[:3]))}{', ...' if len(value) > 3 else ''}]"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = _line(str(value))
    return text if len(text) <= 70 else text[:67] + "..."
