"""Which columns of a table hold pictures, where files with their names lie, and how problems mark them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlparse

from gmpo_vl.data.pictures.archives import stem_of
from gmpo_vl.data.pictures.folder import PICTURES, PictureFolder
from gmpo_vl.data.pictures.of_row import entries_of, pictures_below
from gmpo_vl.data.rows import DataError, RowError, stored_picture
from gmpo_vl.data.start.names import CHOICES, MOST, Guess, Sample, named, series, words
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty

_NAMES = tuple(
    "images image decoded_image image_path image_paths img imgs img_path picture pictures photo photos "
    "file_name filename file_path image_file image_name imgname imagename image_filename image_url "
    "image_urls image_bytes img_url file figure".split()
)
_NAMING = frozenset("image img picture photo figure pic file name id uid uuid key index idx".split())
_STEMS = ("image", "img", "picture", "photo", "figure", "pic")
_STEMS_OF_CHOICES = ("option", "choice", "opt", "candidate")
_OF_PICTURES = frozenset((*_STEMS, *(f"{stem}s" for stem in _STEMS)))  # words of a folder's name
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
_MOST_SPELLINGS = 5
Named: TypeAlias = tuple[Path | None, str]  # a picture's name, and the folder of its row's table


def guess_images(sample: Sample, place: Path) -> Guess | None:
    """None for a table without pictures. place: the table, or a folder or archive of pictures."""
    chosen = choices_in_pictures(sample)
    free = [name for name in sample.columns if name not in chosen]
    kinds = {name: kind for name in free if (kind := kind_of(sample.filled(name)))}
    numbered = series(sample.columns, (*_STEMS, *_NAMES), from_bare=True)
    numbered = [name for name in numbered if name in kinds or not sample.filled(name)]
    if len(numbered) > 1 and numbered[0] in kinds:
        return Guess("images", numbered, "numbered columns of pictures")
    usual = [n for n in named(sample.columns, _NAMES, ("image", "img", "picture", "photo")) if n in kinds]
    certain = [name for name in kinds if kinds[name] != "pixels"]  # any table of numbers is like pixels
    if usual:
        surest = ("encoded", "path", "pixels", "url")
        best = min(usual, key=lambda name: surest.index(kinds[name]))
        others = [name for name in dict.fromkeys([*usual, *certain]) if name != best]
        said = f"; LEFT OUT: {', '.join(others)}" if others else ""
        return Guess("images", best, f"its name, and {_WORDS[kinds[best]]} in it{said}")
    if any(kinds[name] != "url" for name in certain):
        value = certain[0] if len(certain) == 1 else certain
        return Guess("images", value, " and ".join(sorted({_WORDS[kinds[n]] for n in certain})) + " in it")
    if found := _by_files(sample, place):
        return found
    if certain:
        left = f"; LEFT OUT: {', '.join(certain[1:])}" if certain[1:] else ""
        return Guess("images", certain[0], f"{_WORDS['url']} in it{left}")
    stems = [name for name in named(sample.columns, _NAMES) if _are_stems(sample.filled(name))]
    return Guess("images", stems[0], "its name, and short words in it that can name files") if stems else None


def choices_in_pictures(sample: Sample) -> list[str]:
    """Columns of choices that are pictures: one for all of them, or one for each."""
    columns = [*named(sample.columns, CHOICES), *series(sample.columns, _STEMS_OF_CHOICES)]
    return [name for name in dict.fromkeys(columns) if kind_of(sample.filled(name)) is not None]


def _are_stems(values: Sequence[Any]) -> bool:
    """000000123, a picture's name without its ending."""
    texts = [value for value in values if isinstance(value, str) and re.fullmatch(r"[\w./-]{1,100}", value)]
    return len(texts) == len(values) > 0


def _by_files(sample: Sample, place: Path) -> Guess | None:
    """A column of ids by which files of pictures are called (TextVQA's image_id), near the place."""
    if not place.exists():  # a hub's set
        return None
    beside = place if place.is_dir() else place.parent
    folders = _folders(beside)
    archives = [PictureFolder(path) for path in (place, *_entries(beside)) if stem_of(path) is not None]
    for name in naming_columns(sample):
        values = sample.filled(name)
        is_number = name.isidentifier() and all(_is_whole(value) for value in values)
        texts = [name] if _are_stems(values) else []
        for spec in [*texts, *(_spellings(name, folders) if is_number else [])] if values else []:
            guess = Guess("images", spec, f"files of pictures are called so; is {name!r} the picture's?")
            names = [name for _, name in picture_names(sample, guess)]
            counts = [sum(is_there(folder / name) for name in names) for folder in folders]
            counts += [sum(_is_found(archive, name) for name in names) for archive in archives]
            if max(counts) >= MOST * len(names):
                return guess
    return None


def naming_columns(sample: Sample) -> list[str]:
    """Columns that by their own names can name files, those of pictures first."""
    ids = [name for name in sample.columns if _NAMING & set(words(name))]
    return sorted(ids, key=lambda name: not set(words(name)) & set(_STEMS))


def _is_whole(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isdecimal())


def _spellings(name: str, folders: Sequence[Path]) -> list[str]:
    """Templates that write a column's number as files there are called: 17, 000000017, COCO_000000017."""
    found: Counter[tuple[str, int]] = Counter()
    for folder in folders:
        for path in _entries(folder)[:_MOST_FOLDERS]:
            if path.suffix.lower() in PICTURES and (match := re.fullmatch(r"(.*\D|)(\d+)", path.stem)):
                padded = len(match[2]) if match[2].startswith("0") and len(match[2]) > 1 else 0
                found[match[1], padded] += 1
    padded = [
        f"{before}{{{{ '%0{width}d' | format({name} | int) }}}}" if width else f"{before}{{{{ {name} }}}}"
        for (before, width), _ in found.most_common(_MOST_SPELLINGS)
        if (before or width) and "{" not in before
    ]
    return [f"{{{{ {name} }}}}", *padded]


def kind_of(values: Sequence[Any]) -> str | None:
    """A key of _WORDS for values that are pictures; None for a column of anything else."""
    found = [_kind(value) for value in values]
    if not found or sum(kind is not None for kind in found) < MOST * len(found):
        return None
    return next((kind for kind in _WORDS if kind in found), None)


def _kind(value: Any) -> str | None:
    if isinstance(value, str) and value[:1] == "[":
        listed = entries_of(value)  # a list as text
        value = None if listed == [value] else listed
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


# Words that say of a column of numbers or short words that it names pictures: image_id, imageIndex.
_PICTURE_WORDS = {"image", "img", "picture", "photo"}
_NAMING_WORDS = {"id", "ids", "index", "key", "name", "number", "file", "path"}


def lost_pictures(sample: Sample, source: str) -> Guess | None:
    """What is to be asked where no column gives pictures, and one is called as if it did, or about as many
    pictures as rows lie with the table.
    """
    taken_away = "take the line away if rows have none"
    for column in sample.columns:
        if _PICTURE_WORDS & set(words(column)) and _NAMING_WORDS & set(words(column)):
            why = f"no file is called as {column} says: `--image-folder` tells where they lie; {taken_away}"
            return Guess("images", None, why)
    place = Path(source)
    below = pictures_below(place if place.is_dir() else place.parent) if place.exists() else iter(())
    found = list(islice(below, len(sample.rows)))
    if len(found) < max(1, len(sample.rows) / 2):
        return None
    return Guess("images", None, f"no column names pictures such as {found[0]}; {taken_away}")


# --- where they lie ---------------------------------------------------------------------------------------
def picture_names(sample: Sample, images: Guess) -> list[Named]:
    """Names of some pictures as the rows have them, without those that hold the picture itself."""
    columns = images.value if isinstance(images.value, list) else [images.value]
    found: list[Named] = []
    for column in columns:
        for beside, value in zip(sample.folders, sample.values(column)):
            listed = entries_of(value) if isinstance(value, str) else value
            listed = listed if isinstance(listed, list | tuple) else [listed]
            items = [stored_picture(item) for item in listed if not is_empty(item)]
            texts = [i for i in items if isinstance(i, str) and _kind(i) != "encoded"]
            found += [
                (beside, unquote(Path(urlparse(t).path).name) if _kind(t) == "url" else t) for t in texts
            ]
    found = list(dict.fromkeys(found))
    return found[:: max(1, len(found) // _TRIED)]


def guess_folder(
    named: Sequence[Named], table: Path, here: Path, advise: Callable[[Sequence[Path]], str]
) -> Guess | None:
    """`image_folder` as seen from `here`, for pictures of these names; None where none is needed.

    Looked at: the table's folder, the folders in it and in those, the one above and the folders in it; then
    all of the table's folder with its archives, of folders beside it that are called after pictures (CLEVR's
    images/train beside questions/), and of `here`, as `convert` looks. value None: the
    pictures are not there, or one name is in several folders; `advise` says what to do then.
    """
    names = list(dict.fromkeys(name for beside, name in named if not _is_at(beside, name)))
    if len(names) <= (1 - MOST) * len(named):
        return None
    root = table if table.is_dir() else table.parent
    below, folders = PictureFolder(root), _folders(root)
    for name in names:
        there = {path.resolve(): path for path in folders if is_there(path / name)}
        if len(there) > 1 or _is_ambiguous(below, name):
            places = (
                ", ".join(path_text(path, here) for path in list(there.values())[:5]) or "several folders"
            )
            said = f"{name!r} is in {places}: {advise(list(there.values()))}"
            return Guess("image_folder", None, said)
    counts = {path: sum(is_there(path / name) for name in names) for path in folders}
    best = max(counts, key=lambda path: counts[path])
    if counts[best] < len(names):
        beside = (path for path in _inside(root.absolute().parent) if set(words(path.name)) <= _OF_PICTURES)
        for place in (root, *beside, here):
            found = PictureFolder(place)
            if (count := sum(_is_found(found, name) for name in names)) > counts[best]:
                best, counts[place] = place, count
    if not counts[best]:
        return Guess("image_folder", None, f"no {names[0]!r} near {table}")
    text = path_text(best, here)  # the mapping's own folder is where paths begin anyway
    why = f"{counts[best]} of {len(names)} names looked for are there"
    return None if text == "." else Guess("image_folder", text, why)


def _is_at(beside: Path | None, name: str) -> bool:
    """Whether `convert` finds it without an image_folder: by its whole path, or from its table's folder."""
    return os.path.isfile(name if beside is None else beside / name) and (
        beside is not None or os.path.isabs(name)
    )


def _is_ambiguous(folder: PictureFolder, name: str) -> bool:
    """Whether several files below the folder have this name, which has no folder itself."""
    try:
        return "/" not in name and not folder.find(name)
    except RowError as error:
        return error.reason == "image_ambiguous"
    except DataError:  # a damaged archive
        return False


def _is_found(folder: PictureFolder, name: str) -> bool:
    try:
        folder.find(name)
    except (RowError, DataError):  # not there, or in a damaged archive
        return False
    return True


def path_text(place: Path, here: Path) -> str:
    try:
        return place.resolve().relative_to(here.resolve()).as_posix()
    except ValueError:
        return str(place)


def is_there(path: Path) -> bool:
    """In upper or lower case and with any ending, as `convert` finds it. A name that no file can have is
    nowhere.
    """
    return os.path.isfile(path) or path.name.casefold() in _called(path.parent)


@lru_cache(maxsize=_MOST_FOLDERS)
def _called(folder: Path) -> frozenset[str]:
    """What files of pictures in a folder are called, with and without their endings, in lower case."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name.casefold() for entry in entries]
    except (OSError, ValueError):
        return frozenset()
    stems = [stem for stem, ending in map(os.path.splitext, names) if ending in PICTURES]
    return frozenset([*names, *stems])


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
