"""What stands in the way of a file, a folder or the hub, said in a sentence before anything is computed."""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from threading import Thread
from typing import Literal

from gmpo_vl.storage.files import free_space

HUB_ANSWERS_WITHIN = (
    5.0  # seconds, unless HF_HUB_ETAG_TIMEOUT, the hub library's own variable, says another number
)

# {what the system says: what that means, and what to do}
_IN_WORDS = {
    errno.ENOENT: "there is no such file or folder, or no folder to make it in",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
    errno.ENOTDIR: (
        "a part of this path is a file where a folder is needed: move it away, or name another path"
    ),
    errno.EEXIST: (
        "a file stands where a folder is needed: move it away (a link to nothing counts as one), "
        "or name another path"
    ),
    errno.EACCES: "this user lacks the right to read or write here: give it, or name another path",
    errno.EPERM: "this user lacks the right to change it: give it, or name another path",
    errno.EROFS: "this file system takes no changes: name another path",
    errno.ELOOP: (
        "a symbolic link stands where a file or folder is needed, or links go in a circle: move it away"
    ),
    errno.ENAMETOOLONG: "the name is longer than the file system takes: name another path",
    errno.ENOSPC: "the disk is full: make room there, or name another path",
    errno.EDQUOT: "this user's share of the disk is used up: make room there, or name another path",
}
FULL = (errno.ENOSPC, errno.EDQUOT)


def in_words(error: BaseException) -> str:
    """An error's message. A system error about a path becomes a sentence with the path and what to do, and
    with the room on its disk where that is full.
    """
    said = _IN_WORDS.get(error.errno or 0) if isinstance(error, OSError) else None
    if said is None or not isinstance(error, OSError):
        return str(error)
    found = error.filename2 or error.filename  # of a rename, the target is in the way
    if not found:
        return _full_somewhere(error) if error.errno in FULL else str(error)
    name = os.fsdecode(found) if isinstance(found, str | bytes) else str(found)
    shown = name if len(name) <= 300 else f"{name[:300]}..."
    reason = str(error.strerror)
    if error.errno in FULL and "free on" not in reason:
        reason += f"; {free_space(Path(name))}"
    return f"{shown}: {said} ({reason})"


def _full_somewhere(error: OSError) -> str:
    """Of a write whose file nobody knows: into the standard output, or by a library."""
    folders = dict.fromkeys(Path(folder) for folder in (gettempdir(), os.getcwd(), Path.home()))
    rooms = ", ".join(f"{folder}: {free_space(folder)}" for folder in folders)
    return f"a disk is full, or the one that the output goes to ({error.strerror}; {rooms})"


def make_folder(path: Path) -> None:
    """Make a folder that can be read and written. Raises OSError with a sentence."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(in_words(error)) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: {_IN_WORDS[errno.EACCES]}")


def check_file(path: Path, appended: bool = False) -> None:
    """Raises OSError with a sentence unless a readable file stands there, or nothing.

    appended: the file must be writable too; any other is replaced as a whole.
    """
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise IsADirectoryError(f"{path}: {_IN_WORDS[errno.EISDIR]}")
    if not path.is_file():
        raise OSError(f"{path} is no file, and a file is needed there: move it away")
    if not os.access(path, os.R_OK | (os.W_OK if appended else 0)):
        raise PermissionError(f"{path}: {_IN_WORDS[errno.EACCES]}")


@lru_cache(maxsize=64)
def hub_obstacle(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Why the hub cannot be asked for OWNER/NAME, in a few words; None where it answers, whatever it says of
    that name.

    The hub's libraries try again for half a minute or without an end. So this asks once a process, with a
    time limit, before they do. None too where HF_HUB_OFFLINE is set: the libraries then read their cache and
    ask nobody.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    limit = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", HUB_ANSWERS_WITHIN))
    said: list[str | None] = []
    # In a thread: a request's own limit is for each address that is tried, and not for the name look-up.
    asking = Thread(target=lambda: said.append(_ask_hub(name, kind, limit)), daemon=True)
    asking.start()
    asking.join(limit)
    return said[0] if said else f"no answer within {limit:g} s; HF_HUB_ETAG_TIMEOUT allows more"


def _ask_hub(name: str, kind: str, limit: float) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=limit)
    except HFValidationError:
        return None  # no name that the hub can have: the library says so at once
    except HfHubHTTPError as error:
        status = error.response.status_code
        return f"it answers {status}" if status >= 500 else None
    except Exception as error:  # of httpx or of requests, as the library's version has it
        first: BaseException = error  # what the system said, below the libraries' own words
        while (inner := first.__cause__ or first.__context__) is not None:
            first = inner
        return " ".join(str(first).split())[:150] or type(first).__name__
    return None
