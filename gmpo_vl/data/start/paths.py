"""Where pictures lie, as a template says: in a folder of each split, or with more than an id in the name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from gmpo_vl.data.mapping import is_template
from gmpo_vl.data.pictures.of_row import pictures_below
from gmpo_vl.data.sources import SPLIT_OF, canonical_split
from gmpo_vl.data.start.names import MOST, Guess, Sample
from gmpo_vl.data.start.pictures import is_there, naming_columns, path_text

_LOOKED_AT = 5_000  # files of pictures
_MOST_VALUES = 8  # of a column that tells folders apart
_MOST_ENDS = 3  # that are shown


def in_folder_of_column(sample: Sample, spec: str, places: Sequence[Path], here: Path) -> str | None:
    """The template of `images` for names that lie in several folders, where a column says in which:
    `coco/{{ split }}2017/{{ file_name }}`. None where no column does.

    spec: column or template of the name. places: the folders. here: where the mapping's paths begin. The
    pictures of the sample's rows are there.
    """
    if len(places) < 2:
        return None
    common = Path(os.path.commonpath([path.absolute() for path in places]))
    inside = [path.absolute().relative_to(common).as_posix() for path in places]
    name = spec if is_template(spec) else f"{{{{ {spec} }}}}"
    for column in sample.columns:
        folders = _folders_by_value(sample, column, inside)
        if folders is None:
            continue
        spelled = {folder.replace(value, f"{{{{ {column} }}}}", 1) for value, folder in folders.items()}
        if len(spelled) > 1:
            spelled = {f"{{{{ {folders}[{column}] }}}}"}
        begin = path_text(common, here)
        template = "/".join([*([] if begin == "." else [begin]), *spelled, name])
        if _are_there(sample, template, here):
            return template
    return None


def _folders_by_value(sample: Sample, column: str, folders: Sequence[str]) -> dict[str, str] | None:
    """{value: the one folder that it names, or that is called after its split}; None where the values do not
    tell the folders apart.
    """
    values = sample.values(column)
    if not column.isidentifier() or not all(isinstance(value, str) for value in values):
        return None
    found: dict[str, str] = {}
    for value in dict.fromkeys(values):
        named = [folder for folder in folders if value.lower() in folder.lower()]
        named = named or [folder for folder in folders if canonical_split(value) in _splits_of(folder)]
        if len(named) != 1 or len(found) == _MOST_VALUES:
            return None
        found[value] = named[0]
    return found if len(found) > 1 and len(set(found.values())) == len(found) else None


def _splits_of(folder: str) -> set[str]:
    """The splits that words of a path name: val2017 is validation."""
    return {SPLIT_OF[word] for word in re.findall(r"[a-z]+", folder.lower()) if word in SPLIT_OF}


def with_ending(sample: Sample, place: Path, here: Path) -> Guess | None:
    """What is to be asked where files of pictures are called as a column says with the same end behind it:
    DUDE's DOCID_0.jpg is the first page of a document.

    place: the table, or a folder of pictures. here: where the mapping's paths begin.
    """
    if not place.exists():  # a hub's set
        return None
    root = place if place.is_dir() else place.parent
    files = list(islice(pictures_below(root), _LOOKED_AT))
    for column in naming_columns(sample):
        values = {str(value) for value in sample.filled(column) if isinstance(value, str | int)}
        ends = Counter(end for path in files for end in _ends(path, values))
        likely = sorted(ends, key=lambda end: (-ends[end], end))
        found = [
            template
            for end in likely[:_MOST_ENDS]
            if (template := _template(sample, column, end, files, here))
        ]
        if found:
            shown = " or ".join(f'images: "{template}"' for template in found)
            why = f"files of pictures are called as {column!r} says, with more behind it: write {shown}"
            return Guess("images", None, f"{why}; take the line away if rows have none")
    return None


def _ends(path: Path, values: set[str]) -> list[str]:
    """What stands behind one of the values in a file's name."""
    name = path.name
    return [name[at:] for at in range(1, len(name)) if not name[at].isalnum() and name[:at] in values]


def _template(sample: Sample, column: str, end: str, files: Sequence[Path], here: Path) -> str | None:
    """The template of pictures with this end, with their folder; None where most rows have no such file."""
    if not column.isidentifier() or end == Path(f"a{end}").suffix or "{" in end:
        return None
    name = f"{{{{ {column} }}}}{end}"
    places = list(dict.fromkeys(path.parent for path in files if path.name.endswith(end)))
    if len(places) > 1:
        return in_folder_of_column(sample, name, places, here)
    begin = path_text(places[0], here)
    template = name if begin == "." else f"{begin}/{name}"
    return template if _are_there(sample, template, here) else None


def _are_there(sample: Sample, template: str, here: Path) -> bool:
    paths = sample.filled(template)
    return sum(is_there(here / str(path)) for path in paths) >= MOST * len(sample.rows)
