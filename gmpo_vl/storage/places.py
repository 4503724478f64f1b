"""Files and folders where others are in their place, or rights are missing: said in a sentence, before anything is computed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# {what the system says: what that means, and what to do}
_IN_WORDS = {
    errno.ENOENT: "there is no such file or folder, or no folder to make it in",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
    errno.ENOTDIR: "a part of this path is a file where a folder is needed: move it away, or name another path",
    errno.EEXIST: "a file stands where a folder is needed: move it away (a link to nothing counts as one), or name another path",
    errno.EACCES: "this user lacks the right to read or write here: give it, or name another path",
    errno.EPERM: "this user lacks the right to change it: give it, or name another path",
    errno.EROFS: "this file system takes no changes: name another path",
    errno.ELOOP: "a symbolic link stands where a file or folder is needed, or links go in a circle: move it away",
    errno.ENAMETOOLONG: "the name is longer than the file system takes: name another path",
}


def in_words(error: BaseException) -> str:
    """An error's message; one of the system's about a path as a sentence that names the path and a way out."""
    said = _IN_WORDS.get(error.errno or 0) if isinstance(error, OSError) and error.filename else None
    if said is None or not isinstance(error, OSError):
        return str(error)
    found = error.filename2 or error.filename  # what a file is renamed to stands in its way
    name = os.fsdecode(found) if isinstance(found, str | bytes) else str(found)
    return f"{name if len(name) <= 300 else f'{name[:300]}...'}: {said} ({error.strerror})"


def make_folder(path: Path) -> None:
    """The folder is there afterwards, and may be written into. Raises OSError with a sentence."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(in_words(error)) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: {_IN_WORDS[errno.EACCES]}")


def check_file(path: Path, appended: bool = False) -> None:
    """A file stands there, which may be read, or nothing. `appended`: it may be written, too; any other is replaced.

    Raises OSError with a sentence.
    """
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise IsADirectoryError(f"{path}: {_IN_WORDS[errno.EISDIR]}")
    if not path.is_file():
        raise OSError(f"{path} is no file, and a file is needed there: move it away")
    if not os.access(path, os.R_OK | (os.W_OK if appended else 0)):
        raise PermissionError(f"{path}: {_IN_WORDS[errno.EACCES]}")
