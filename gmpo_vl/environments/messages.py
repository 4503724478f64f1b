"""What an environment gives, checked, and as JSON objects for the pipes of isolated ones."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.turns import plain
from gmpo_vl.types import Example, ImageSource


def checked_observation(observation: Any) -> Observation:
    """The observation with pictures as encoded bytes, and a text that a prompt can hold (turns.plain).

    The environment may go on drawing on a picture that it gave, also in the file of a path. Raises TypeError
    and ValueError with the reason, OSError for a file that cannot be read.
    """
    if not isinstance(observation, Observation):
        raise TypeError(f"an Observation was due, not a {type(observation).__name__}")
    if not isinstance(observation.text, str) or not all(isinstance(a, str) for a in observation.actions):
        raise TypeError("an observation's text and its actions are texts")
    images = tuple(map(_read, observation.images))
    return Observation(plain(observation.text, len(images)), images, tuple(observation.actions))


def checked_step(step: Any) -> Step:
    """The step with finite numbers and plain values. Raises TypeError and ValueError with the reason."""
    if not isinstance(step, Step):
        raise TypeError(f"a Step was due, not a {type(step).__name__}")
    if not isinstance(step.action, str):
        raise TypeError(f"a step's action is a text, not a {type(step.action).__name__}")
    for key in ("won", "valid"):
        if step.info.get(key) is not None:
            _yes_or_no(f"info[{key!r}]", step.info[key])
    if "error" in step.info:
        raise ValueError("info['error'] stands for a game that broke; call it otherwise")
    return Step(
        checked_observation(step.observation),
        _finite("reward", step.reward),
        _yes_or_no("terminated", step.terminated),
        _yes_or_no("truncated", step.truncated),
        _finite("penalty", step.penalty),
        step.action,
        {str(key): _plain_value(f"info[{key!r}]", value) for key, value in step.info.items()},
    )


def _yes_or_no(name: str, value: Any) -> bool:
    """Also of numpy. A text is none: "no" would be true."""
    plain_value = _plain_value(name, value)
    if not isinstance(plain_value, bool | int | float):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return bool(plain_value)


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r:.80}, but must be a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r} is not a finite number")
    return number


def _plain_value(name: str, value: Any) -> Any:
    """As JSON gives it back: lists for tuples, numbers for those of numpy."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(name, value)
    if isinstance(value, list | tuple):
        return [_plain_value(name, item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_value(name, item) for key, item in value.items()}
    raise TypeError(f"{name} is a {type(value).__name__}; info holds texts, numbers, lists and dicts of them")


def stored(image: Any) -> ImageSource:
    """Encoded bytes and paths as they are, a PIL image as PNG."""
    if isinstance(image, bytes | str):
        return image
    if isinstance(image, Path):
        return str(image)
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(f"a picture is a PIL image, encoded bytes or a path, not a {type(image).__name__}")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read(image: Any) -> bytes:
    image = stored(image)
    return Path(image).read_bytes() if isinstance(image, str) else image


def from_observation(observation: Observation) -> dict[str, Any]:
    images = [_packed(image) for image in observation.images]
    return {"text": observation.text, "images": images, "actions": list(observation.actions)}


def to_observation(message: Mapping[str, Any]) -> Observation:
    images = tuple(map(_unpacked, message["images"]))
    return Observation(message["text"], images, tuple(message["actions"]))


def from_step(step: Step) -> dict[str, Any]:
    return {**vars(step), "observation": from_observation(step.observation), "info": dict(step.info)}


def to_step(message: Mapping[str, Any]) -> Step:
    return Step(**{**message, "observation": to_observation(message["observation"])})


def from_example(example: Example) -> dict[str, Any]:
    return {**vars(example), "images": [_packed(stored(image)) for image in example.images]}


def to_example(message: Mapping[str, Any]) -> Example:
    return Example(**{**message, "images": tuple(map(_unpacked, message["images"]))})


def _packed(image: Any) -> dict[str, str]:
    return {"path": image} if isinstance(image, str) else {"bytes": base64.b64encode(image).decode("ascii")}


def _unpacked(image: Mapping[str, str]) -> ImageSource:
    return image["path"] if "path" in image else base64.b64decode(image["bytes"])
