"""Which columns of a table hold pictures, where files with their names lie, and how problems mark them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from gmpo_vl.data.pictures.archives import stem_of
from gmpo_vl.data.pictures.folder import PICTURES, PictureFolder
from gmpo_vl.data.pictures.of_row import entries_of
from gmpo_vl.data.rows import DataError, RowError, stored_picture
from gmpo_vl.data.start.names import MOST, Guess, Sample, named, series, words
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty

_NAMES = tuple(
    "images image decoded_image image_path image_paths img imgs img_path picture pictures photo photos "
    "file_name filename file_path image_file image_name imgname imagename image_filename image_url "
    "image_urls image_bytes img_url file figure".split()
)
_NAMING = frozenset("image img picture photo figure pic file name id uid uuid key".split())
_STEMS = ("image", "img", "picture", "photo", "figure", "pic")
_SMALLEST = 8  # pixels of a side that make numbers a picture
# Kinds of pictures, the surest first.
_WORDS = {
    "encoded": "encoded pictures",
    "path": "names of picture files",
    "url": "addresses of pictures",
    "pixels": "pixels",
}
_MARK = re.compile(r"([<\[{(]\s?(?:image|img|picture|figure)[ _-]?)(\d{1,2})(\s?[>\]})])", re.IGNORECASE)
_TRIED = 20  # names of pictures that are looked for
_MOST_FOLDERS = 200  # in which they are looked for


def guess_images(sample: Sample, place: Path) -> Guess | None:
    """None for a table without pictures. place: the table, or a folder or archive of pictures."""
    kinds = {name: kind for name in sample.columns if (kind := kind_of(sample.filled(name)))}
    numbered = series(sample.columns, (*_STEMS, *_NAMES), from_bare=True)
    numbered = [name for name in numbered if name in kinds or not sample.filled(name)]
    if len(numbered) > 1 and numbered[0] in kinds:
        return Guess("images", numbered, "numbered columns of pictures")
    usual = [n for n in named(sample.columns, _NAMES, ("image", "img", "picture", "photo")) if n in kinds]
    certain = [name for name in kinds if kinds[name] != "pixels"]  # any table of numbers is like pixels
    if usual:
        best = next((name for name in usual if kinds[name] == "encoded"), usual[0])
        others = [name for name in dict.fromkeys([*usual, *certain]) if name != best]
        said = f"; LEFT OUT: {', '.join(others)}" if others else ""
        return Guess("images", best, f"its name, and {_WORDS[kinds[best]]} in it{said}")
    if any(kinds[name] != "url" for name in certain):
        value = certain[0] if len(certain) == 1 else certain
        return Guess("images", value, " and ".join(sorted({_WORDS[kinds[n]] for n in certain})) + " in it")
    if found := _by_files(sample, place):
        return found
    if certain:
        return Guess("images", certain[0] if len(certain) == 1 else certain, f"{_WORDS['url']} in it")
    stems = [name for name in named(sample.columns, _NAMES) if _are_stems(sample.filled(name))]
    return Guess("images", stems[0], "its name, and short words in it that can name files") if stems else None


def _are_stems(values: Sequence[Any]) -> bool:
    """000000123, a picture's name without its ending."""
    texts = [value for value in values if isinstance(value, str) and re.fullmatch(r"[\w./-]{1,100}", value)]
    return len(texts) == len(values) > 0


def _by_files(sample: Sample, place: Path) -> Guess | None:
    """A column of ids by which files of pictures are called (TextVQA's image_id), near the place."""
    if not place.exists():  # a hub's set
        return None
    beside = place if place.is_dir() else place.parent
    archives = [PictureFolder(path) for path in (place, *_entries(beside)) if stem_of(path) is not None]
    ids = [name for name in sample.columns if _NAMING & set(words(name))]
    for name in sorted(ids, key=lambda name: not set(words(name)) & set(_STEMS)):
        values = sample.filled(name)
        is_number = name.isidentifier() and all(type(value) is int for value in values)
        if not values or not (is_number or _are_stems(values)):
            continue
        guess = Guess("images", f"{{{{ {name} }}}}" if is_number else name, "files of pictures are called so")
        names = picture_names(sample, guess)
        counts = [sum(_is_picture(folder / name) for name in names) for folder in _folders(beside)]
        counts += [sum(_is_found(archive, name) for name in names) for archive in archives]
        if max(counts) >= MOST * len(names):
            return guess
    return None


def kind_of(values: Sequence[Any]) -> str | None:
    """A key of _WORDS for values that are pictures; None for a column of anything else."""
    found = [_kind(value) for value in values]
    if not found or sum(kind is not None for kind in found) < MOST * len(found):
        return None
    return next((kind for kind in _WORDS if kind in found), None)


def _kind(value: Any) -> str | None:
    if isinstance(value, str) and value[:1] == "[":
        value = entries_of(value)  # a list as text
    if isinstance(value, list | tuple):
        return "pixels" if _are_pixels(value) else _kind(value[0]) if value else None
    value = stored_picture(value) if isinstance(value, Mapping) and {"bytes", "path"} & set(value) else value
    if isinstance(value, bytes):
        return "encoded"
    if not isinstance(value, str):
        return None
    if value.startswith("data:image/") or _is_base64(value):
        return "encoded"
    if not value.lower().partition("?")[0].endswith(PICTURES) or "\n" in value:
        return None
    return "url" if value.startswith(("http://", "https://")) else "path"


def _are_pixels(value: Sequence[Any]) -> bool:
    """Rows of pixels, a list each; not the corners of a box."""
    inner = value[0] if len(value) >= _SMALLEST else None
    return isinstance(inner, list) and len(inner) >= _SMALLEST and isinstance(inner[0], int | float | list)


def _is_base64(text: str) -> bool:
    return len(text) > 200 and re.fullmatch(r"[A-Za-z0-9+/]{200}", text[:200]) is not None


# --- where they lie ---------------------------------------------------------------------------------------
def picture_names(sample: Sample, images: Guess) -> list[str]:
    """Names of some pictures as the rows have them, without those that hold the picture itself."""
    columns = images.value if isinstance(images.value, list) else [images.value]
    values = [value for column in columns for value in sample.filled(column)]
    items = [i for value in values for i in (value if isinstance(value, list | tuple) else [value])]
    texts = [stored_picture(item) for item in items if not is_empty(item)]
    names = [text for text in texts if isinstance(text, str) and _kind(text) != "encoded"]
    kept = [unquote(Path(urlparse(n).path).name) if _kind(n) == "url" else n for n in names]
    step = max(1, len(kept) // _TRIED)
    return list(dict.fromkeys(kept[::step]))[:_TRIED]


def guess_folder(names: Sequence[str], table: Path, here: Path) -> Guess | None:
    """`image_folder` as seen from `here`, for pictures of these names; None where none is needed.

    Looked at: the table's folder, the folders in it and in those, the one above and the folders in it; then
    all of the table's folder with its archives, as `convert` looks. value None: the pictures are not there.
    """
    if not names or all(os.path.isabs(name) and os.path.isfile(name) for name in names):
        return None
    beside = table if table.is_dir() else table.parent
    counts = {folder: sum(_is_there(folder / name) for name in names) for folder in _folders(beside)}
    best = max(counts, key=lambda folder: counts[folder])
    if counts[best] < len(names):
        found = PictureFolder(beside)
        if (count := sum(_is_found(found, name) for name in names)) > counts[best]:
            best, counts[beside] = beside, count
    if not counts[best]:
        return Guess("image_folder", None, f"no {names[0]!r} near {table}")
    return _found(best, f"{counts[best]} of {len(names)} names looked for are there", here)


def _is_found(folder: PictureFolder, name: str) -> bool:
    try:
        folder.find(name)
    except (RowError, DataError):  # not there, or in a damaged archive
        return False
    return True


def _found(place: Path, why: str, here: Path) -> Guess | None:
    """None for the mapping's own folder, where paths begin anyway."""
    try:
        text = place.resolve().relative_to(here.resolve()).as_posix()
    except ValueError:
        text = str(place)
    return None if text == "." else Guess("image_folder", text, why)


def _is_there(path: Path) -> bool:
    """With any ending, where the name has none. A name that no file can have is nowhere."""
    return os.path.isfile(path) or (not path.suffix and _is_picture(path))


def _is_picture(path: Path) -> bool:
    return any(os.path.isfile(f"{path}{end}") for ending in PICTURES for end in (ending, ending.upper()))


def _folders(beside: Path) -> list[Path]:
    """The nearest first. Hidden ones are left out."""
    beside = beside.absolute()
    inside = _inside(beside)
    deeper = [deep for folder in inside for deep in _inside(folder)]
    around = [beside.parent, *(folder for folder in _inside(beside.parent) if folder != beside)]
    return [beside, *inside, *deeper, *around][:_MOST_FOLDERS]


def _inside(folder: Path) -> list[Path]:
    found = [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]
    return found[:_MOST_FOLDERS]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a folder above, that this user may not look into
        return []


# --- marks in the problem ---------------------------------------------------------------------------------
def guess_marks(texts: Sequence[str], counts: Sequence[int]) -> list[Guess]:
    """image_marks, and image_place where marks cannot be placed; counts: pictures of each row."""
    if sum(IMAGE_TAG in text for text in texts) > len(texts) / 2:  # the pictures have their places
        return []
    found = [list(_MARK.finditer(text)) for text in texts]
    spelled = [(m[1], m[3]) for matches in found for m in matches]
    if not spelled:
        return []
    before, after = max(set(spelled), key=spelled.count)
    mark = f"{before}{{n}}{after}"
    guesses = [Guess("image_marks", mark, "so the problems mark their pictures")]
    numbers = [
        list(dict.fromkeys(int(m[2]) for m in matches if (m[1], m[3]) == (before, after)))
        for matches in found
    ]
    if any(max(n, default=0) > count for n, count in zip(numbers, counts)):
        guesses.append(Guess("image_place", "front", "rows have more marks than pictures"))
    elif any(n != sorted(n) for n in numbers):
        guesses.append(Guess("image_place", "front", "in some rows the marks are not in their order"))
    return guesses
