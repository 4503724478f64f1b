"""Which picture a name means: a file below the picture folder, or a member of an archive there.

The folders of a name count. `geo/1.png` and `/home/x/images/geo/1.png` are `geo/1.png` of the picture
folder, and so is `images/geo/1.png` where the folder is called images; `train/1.png` is never `test/1.png`.
Only a bare name is looked for in all of it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from urllib.parse import unquote, urlparse

from gmpo_vl.data.pictures.archives import SUFFIXES as ARCHIVES
from gmpo_vl.data.pictures.archives import Archive, open_archive, stem_of
from gmpo_vl.data.rows import DataError, RowError, close_names
from gmpo_vl.data.sources import SPLIT_OF

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npy")
_URL = ("http://", "https://")
# How a name begins that does not begin at the picture folder.
_FOREIGN = re.compile(r"[/\\~]|\.\.[/\\]|[A-Za-z]:")
_LONGEST, _MOST_PARTS = 4096, 64  # of a name: characters, and folders with the file


class PictureFolder:
    """A folder, with the archives that lie in it, or an archive (or a folder inside it: `images.zip/geo`)."""

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()
        self._named: dict[tuple[Path, str], str] = {}  # {(place, file or folder there): its name in the rows}

    def find(self, name: str) -> str | bytes:
        """The picture's path, or its content where it lies in an archive.

        Raises RowError where there is none, or several can be meant; DataError for a damaged archive, and
        where two names would be one picture.
        """
        is_url = name.startswith(_URL)
        if name.startswith("file://"):
            name = unquote(urlparse(name).path)
        exact = os.path.join(self.root, name)
        if not is_url and os.path.isfile(exact):
            return exact
        parts = _parts(unquote(urlparse(name).path) if is_url else name) if len(name) <= _LONGEST else []
        if len(parts) > _MOST_PARTS:
            parts = []
        with self._lock:  # an archive is opened once, and an index made once
            found = self._candidates(parts, is_url, is_url or bool(_FOREIGN.match(name)))
            if not found:
                raise RowError("image_missing", self._missing(name, parts, is_url))
        place, inside = found[0]
        picture = place.get(inside)
        # The same picture twice, as an archive that was unpacked and kept, leaves no doubt.
        if any(_content(picture) != _content(other.get(twin)) for other, twin in found[1:]):
            several = ", ".join(place.where(inside) for place, inside in found[:3])
            raise RowError(
                "image_ambiguous",
                f"{len(found)} files can be {name[:300]!r}: {several}; name its folder, too",
            )
        if is_url:
            self._claim(place, inside, name.partition("#")[0])
        elif len(parts) > 1 and inside != "/".join(parts):
            self._claim(place, f"{_folder_of(inside)}/", "/".join(parts[:-1]))
        return picture

    @cached_property
    def _folder(self) -> list[_Place]:
        return [_Place(self.root, Path(os.path.abspath(self.root)).parts)] if self.root.is_dir() else []

    @cached_property
    def _archives(self) -> list[_Place]:
        if self.root.is_dir():
            paths = [
                self.root / name for _, _, names in islice(os.walk(self.root), 1) for name in sorted(names)
            ]
            return [_packed(path, "") for path in paths if stem_of(path) is not None]
        path = next((path for path in (self.root, *self.root.parents) if path.is_file()), None)
        if path is None:
            return []
        if stem_of(path) is None:
            kinds = ", ".join(ARCHIVES)
            raise DataError(f"image_folder: {path} is a file, neither a folder nor an archive ({kinds})")
        return [_packed(path, self.root.relative_to(path).as_posix())]

    def _candidates(self, parts: list[str], is_url: bool, is_foreign: bool) -> list[tuple[_Place, str]]:
        """What fits best, in the folder and in all archives: the name as it is, else its end.

        Bare names, and those of URLs, whose folders may be gone, can be anywhere.
        """
        if not parts:
            return []
        fits: list[Callable[[_Place], list[str]]] = [lambda place: place.exactly(parts)]
        if len(parts) > 1:
            fits.append(lambda place: place.by_its_end(parts, is_foreign))
        if len(parts) == 1 or is_url:
            fits.append(lambda place: place.anywhere(parts))
        places = (*self._folder, *self._archives)
        found = ([(place, inside) for place in places for inside in fit(place)] for fit in fits)
        return next(filter(None, found), [])

    def _claim(self, place: _Place, inside: str, name: str) -> None:
        """A file has one URL, and a folder one name, of which others are the end. Raises DataError: whichever
        row comes first, the pictures of one of the two names are not these.
        """
        with self._lock:
            other = self._named.setdefault((place.path, inside), name)
        one, two = f"/{name}".casefold(), f"/{other}".casefold()
        if not one.endswith(two) and not two.endswith(one):
            first, second = sorted((name, other))
            raise DataError(
                f"image_folder {self.root}: {first[:300]!r} and {second[:300]!r} of the rows would both be "
                f"{place.where(inside)}. Keep pictures under the folders of their names, and set "
                "image_folder to where these begin. If they are the same, take off what differs: "
                "images: \"{{ COLUMN.split('?')[0].split('/')[-1] }}\""
            )

    def _missing(self, name: str, parts: Sequence[str], is_url: bool) -> str:
        gone = "" if self._folder or self._archives else ", which does not exist"
        places = (*self._folder, *self._archives) if parts else ()
        near = [inside for place in places for inside in place.near(parts)][:3]
        said = [f"no file {name[:300]!r} in {self.root}{gone}"]
        if near:
            said.append(f"near it: {', '.join(map(repr, near))}")
        if not is_url and any(other.rpartition("/")[2] == parts[-1] for other in near):
            said.append(
                "other folders are other pictures (if not: {{ COLUMN.split('/')[-1] }} takes them off)"
            )
        said.append(
            "download the pictures and set image_folder" if is_url else "image_folder says where they lie"
        )
        return "; ".join(said)


def _parts(name: str) -> list[str]:
    """The folders and the name. `..` takes a folder off, if there is one; a drive is left away."""
    parts: list[str] = []
    for part in re.split("/" if "/" in name else r"[/\\]", name):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", ".") and not (not parts and re.fullmatch("[A-Za-z]:", part)):
            parts.append(part)
    return [] if "\0" in name else parts


def _split_of(parts: Sequence[str]) -> str | None:
    """The split that the last folder named after one says: test of a/test2014/b."""
    words = (re.sub(r"\d*$", "", part.lower()) for part in reversed(parts))
    return next((SPLIT_OF[word] for word in words if word in SPLIT_OF), None)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _shared_end(one: Sequence[str], two: Sequence[str]) -> int:
    """How many of the last folders are the same."""
    pairs = zip(reversed(one), reversed(two))
    return len(list(takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), pairs)))


def _content(picture: str | bytes) -> bytes:
    try:
        return Path(picture).read_bytes() if isinstance(picture, str) else picture
    except OSError as error:
        raise RowError("image_unreadable", f"{picture}: {error.strerror}") from error


def _packed(path: Path, within: str) -> _Place:
    parts = [part for part in within.split("/") if part not in ("", ".")]
    above = (*Path(os.path.abspath(path)).parent.parts, stem_of(path) or "", *parts)
    return _Place(path, above, open_archive(path), "".join(f"{part}/" for part in parts))


class _Place:
    """Names of files below a folder, or in an archive below `within`. above: the folders that lead there."""

    def __init__(self, path: Path, above: tuple[str, ...], archive: Archive | None = None, within: str = ""):
        self.path, self._above, self._archive, self._within = path, above, archive, within
        self._known: dict[tuple[str, ...], bool] = {}  # folders that were asked for

    def where(self, inside: str) -> str:
        return inside if self._archive is None else f"{self.path.name}/{self._within}{inside}"

    def get(self, inside: str) -> str | bytes:
        if self._archive is None:
            return str(self.path / inside)
        return self._archive.read(self._within + inside)

    def _has(self, inside: str) -> bool:
        if self._archive is None:
            return os.path.isfile(self.path / inside)
        return self._within + inside in self._archive.names

    def exactly(self, parts: list[str]) -> list[str]:
        name = "/".join(parts)
        return [name] if self._has(name) else []

    def by_its_end(self, parts: list[str], is_foreign: bool) -> list[str]:
        """What a name with folders means, in upper or lower case, or without suffix: the name itself, else
        its longest end that is here, where the folders in front can be taken off.
        """
        called = self._called(parts[-1])
        for k in range(len(parts)):
            shared = _shared_end(parts[:k], self._above)
            folder = "/".join(parts[k:-1]).casefold()
            found = self.exactly(parts[k:]) or [n for n in called if _folder_of(n).casefold() == folder]
            if not found or (k > 0 and not self._can_take_off(parts, k, is_foreign)):
                continue
            if k > 0 and shared == 0:  # nothing says that the end begins here: it must be the only one
                deeper = (n for n in called if f"/{_folder_of(n)}".casefold().endswith(f"/{folder}"))
                found = list(dict.fromkeys([*found, *deeper]))
            return found
        return []

    def _can_take_off(self, parts: list[str], k: int, is_foreign: bool) -> bool:
        """Can the first k folders of a name be those that lead here?

        They can, where they are; of a name that begins elsewhere, also where they are folders of another
        machine: none that is here, beside what was found, and none of another split.
        """
        taken = parts[:k]
        shared = _shared_end(taken, self._above)
        own, split = _split_of(self._above[-2:]), _split_of(taken)
        if split not in (None, own) and not (shared and own is None):
            return False
        if shared == k:
            return True
        if not is_foreign or (shared == 0 and k == len(parts) - 1):
            return False
        places = [(self._above, parts[k - 1 : -1]), (self._above[: -1 - shared], parts[k - 1 - shared : -1])]
        return not any(self._is_folder(here, below) for here, below in places)

    def _is_folder(self, here: tuple[str, ...], below: Sequence[str]) -> bool:
        """Is there such a folder, or an archive that can hold it?"""
        whole = (*here, *below)
        if whole not in self._known:
            ways = [os.path.join(*here, *below[:n]) for n in range(1, len(below) + 1)] if here else []
            packed = any(os.path.isfile(f"{way}{ending}") for way in ways for ending in ARCHIVES)
            top = len(self._above) - self._within.count("/")  # of the archive's own folders
            inside = whole[:top] == self._above[:top] and "/".join(whole[top:]) in self._packed_folders
            self._known[whole] = packed or inside or any(map(os.path.isdir, ways[-1:]))
        return self._known[whole]

    @cached_property
    def _packed_folders(self) -> set[str]:
        """All folders in the archive."""
        folders = {_folder_of(name) for name in (self._archive.names if self._archive else ())}
        for folder in list(folders):
            while folder := _folder_of(folder):
                folders.add(folder)
        return folders

    def anywhere(self, parts: list[str]) -> list[str]:
        """All files of the last part's name, but none below another split's folder."""
        split = _split_of(parts[:-1])
        found = [(n, _split_of((*self._above[-2:], *n.split("/")[:-1]))) for n in self._called(parts[-1])]
        return [n for n, other in found if split is None or other in (None, split)]

    def _called(self, name: str) -> list[str]:
        """All files of that name, else of its upper or lower case, or of the name and a picture's suffix."""
        found = self._index.get(name.casefold(), [])
        return [n for n in found if n.rpartition("/")[2] == name] or found

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        """{last part, and without a picture's suffix, in lower case: names}."""
        index: dict[str, list[str]] = {}
        for inside in self._names():
            name = inside.rpartition("/")[2].casefold()
            stem, suffix = os.path.splitext(name)
            for key in (name, stem) if suffix in PICTURES else (name,):
                index.setdefault(key, []).append(inside)
        return index

    def _names(self) -> Iterator[str]:
        if self._archive is None:
            for folder, _, names in os.walk(self.path):
                below = Path(folder).relative_to(self.path)
                yield from ((below / name).as_posix() for name in names if not name.startswith("._"))
        else:
            within = self._within
            yield from (n[len(within) :] for n in self._archive.names if n.startswith(within))

    def near(self, parts: Sequence[str]) -> list[str]:
        """A few names like this one: the same in other folders, else the closest of those around it."""
        name = parts[-1].casefold()
        if found := self._called(name):
            return found[:3]
        return [self._index[key][0] for key in close_names(name, self._sorted)]

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(key for key, names in self._index.items() if names[0].casefold().endswith(key))
