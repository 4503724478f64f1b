"""Does the hub answer? Its libraries ask again and again, for half a minute or without an end, before they say that it does
not; so we ask first, once and with a limit."""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Thread
from typing import Literal

ANSWER_WITHIN = 5.0  # seconds, where HF_HUB_ETAG_TIMEOUT (the hub library's own) says no other number


@lru_cache(maxsize=64)
def hub_obstacle(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Why the hub cannot be asked for OWNER/NAME, in a few words; None where it answers, whatever it says of that name.

    None too where HF_HUB_OFFLINE is set: the libraries take what their cache holds then, without asking. Asked once a process.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    limit = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", ANSWER_WITHIN))
    said: list[str | None] = []
    # In a thread: a request's own time limit is one for each address that is tried, and none for the look-up of the name.
    asking = Thread(target=lambda: said.append(_ask(name, kind, limit)), daemon=True)
    asking.start()
    asking.join(limit)
    return said[0] if said else f"no answer within {limit:g} s; HF_HUB_ETAG_TIMEOUT allows more"


def _ask(name: str, kind: str, limit: float) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=limit)
    except HFValidationError:
        return None  # no name that the hub has: the library says so at once
    except HfHubHTTPError as error:
        status = error.response.status_code
        return f"it answers {status}" if status >= 500 else None
    except Exception as error:  # of httpx or of requests, as the library's version has it
        return _first_cause(error)
    return None


def _first_cause(error: BaseException) -> str:
    """What the system said, below the libraries' own words: that a name is not known, that a call was refused."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split())[:150] or type(error).__name__
