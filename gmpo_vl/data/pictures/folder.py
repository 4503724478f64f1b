"""Which picture a name means: a file below the picture folder, or a member of an archive there.

The folders of a name count. `geo/1.png` and `/home/x/images/geo/1.png` are `geo/1.png` of the picture folder;
`train/1.png` is never `test/1.png`. Only a bare name is looked for in all of it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlparse

from gmpo_vl.data.pictures.archives import SUFFIXES as ARCHIVES
from gmpo_vl.data.pictures.archives import Archive, open_archive, stem_of
from gmpo_vl.data.rows import DataError, RowError, close_names
from gmpo_vl.data.sources import SPLIT_OF

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npy")
_URL = ("http://", "https://")


class PictureFolder:
    """A folder, with the archives that lie in it, or an archive (or a folder inside it: `images.zip/geo`)."""

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()
        self._named: dict[tuple[Path, str], str] = {}  # what a name with other folders was found to mean

    def find(self, name: str) -> str | bytes:
        """The picture's path, or its content where it lies in an archive.

        Raises RowError where there is none, or several can be meant; DataError for a damaged archive.
        """
        is_url = name.startswith(_URL)
        if name.startswith("file://"):
            name = unquote(urlparse(name).path)
        exact = os.path.join(self.root, name)
        if not is_url and os.path.isfile(exact):
            return exact
        parts = _parts(unquote(urlparse(name).path) if is_url else name)
        with self._lock:  # an archive is opened once, and an index made once
            found = self._candidates(parts, is_url)
            if not found:
                raise RowError("image_missing", self._missing(name, parts, is_url))
            if len(found) > 1:
                several = ", ".join(place.where(inside) for place, inside in found[:3])
                raise RowError(
                    "image_ambiguous",
                    f"{len(found)} files can be {name[:300]!r}: {several}; name its folder, too",
                )
            ((place, inside),) = found
            if is_url or (len(parts) > 1 and inside != "/".join(parts)):
                self._claim(place, inside, name.partition("#")[0] if is_url else "/".join(parts))
        return place.get(inside)

    @cached_property
    def _folder(self) -> list[_Place]:
        return [_Place(self.root, self.root.resolve().parts)] if self.root.is_dir() else []

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

    def _candidates(self, parts: list[str], is_url: bool) -> list[tuple[_Place, str]]:
        """In the folder; if there is none, in all archives."""
        if not parts:
            return []
        found = [(place, inside) for place in self._folder for inside in place.meant_by(parts, is_url)]
        return found or [(p, inside) for p in self._archives for inside in p.meant_by(parts, is_url)]

    def _claim(self, place: _Place, inside: str, name: str) -> None:
        """Two names are two pictures, unless one is the end of the other. Raises RowError for the second."""
        other = self._named.setdefault((place.path, inside), name)
        one, two = f"/{name}".casefold(), f"/{other}".casefold()
        if not one.endswith(two) and not two.endswith(one):
            raise RowError(
                "image_ambiguous",
                f"{name[:300]!r} and another row's {other[:300]!r} would both be {place.where(inside)}; "
                "keep pictures under the folders of their names, and set image_folder to where these begin",
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


def _packed(path: Path, within: str) -> _Place:
    parts = [part for part in within.split("/") if part not in ("", ".")]
    above = (*path.resolve().parent.parts, stem_of(path) or "", *parts)
    return _Place(path, above, open_archive(path), "".join(f"{part}/" for part in parts))


class _Place:
    """Names of files below a folder, or in an archive below `within`. above: the folders that lead there."""

    def __init__(self, path: Path, above: Sequence[str], archive: Archive | None = None, within: str = ""):
        self.path, self._above, self._archive, self._within = path, above, archive, within

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

    def meant_by(self, parts: list[str], is_url: bool) -> list[str]:
        """The files that a name can mean, by what fits best: exactly, in upper or lower case, without suffix.

        Where a name has folders, they are the file's; a URL's may be gone.
        """
        endings = list(self._endings(parts))
        for ending in endings:
            if self._has(ending):
                return [ending]
        for ending in endings if len(parts) > 1 else []:
            folder, _, name = ending.rpartition("/")
            same = [n for n in self._called(name) if n.rpartition("/")[0].casefold() == folder.casefold()]
            if same:
                return same
        if len(parts) > 1 and not is_url:
            return []
        split = _split_of(parts[:-1])
        elsewhere = [(n, _split_of((*self._above[-2:], *n.split("/")[:-1]))) for n in self._called(parts[-1])]
        return [n for n, other in elsewhere if split is None or other in (None, split)]

    def _endings(self, parts: list[str]) -> Iterator[str]:
        """The name, and what is left of it where the folders in front are those of another machine.

        They are, where the last of them is this folder, or where folders are left. A folder that is named
        after another split is never taken off.
        """
        yield "/".join(parts)
        own = _split_of(self._above[-2:])
        for k in range(1, len(parts)):
            is_here = bool(self._above) and parts[k - 1].casefold() == self._above[-1].casefold()
            split = _split_of(parts[:k])
            fits = split in (None, own) or (is_here and own is None)
            if fits and (is_here or k < len(parts) - 1):
                yield "/".join(parts[k:])

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
