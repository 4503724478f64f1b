"""YAML from a file or a command line: read, or refused with a sentence, in bounded time and memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 50  # PyYAML recurses: some thousand brackets end the interpreter itself
MAX_NODES = 100_000  # aliases counted as what they stand for: a few lines of them can stand for billions
MAX_INTEGER = 2**63 - 1


# Of the files that people write: keys that only this one has, and what reads it.
_KINDS = {
    "a mapping file": ({"source", "problem"}, "gmpo-vl data convert {} FOLDER"),
    "a run's configuration": ({"engine", "worker", "trainer"}, "gmpo-vl train {}"),
    "an evaluation's protocol": ({"grader", "max_tokens", "benchmark"}, "gmpo-vl eval MODEL --protocol {}"),
    "a study": ({"learning_rates", "tuning_seeds", "fresh_seeds"}, "gmpo-vl study {}"),
}


class YamlError(ValueError):
    """The text is refused. The message says why, not in which file."""


def read_yaml(text: str) -> Any:
    """What the text says. Raises YamlError, also for a repeated key, of which PyYAML takes the last."""
    return _read(text, lambda: yaml.safe_load(text))


def read_settings(text: str) -> Any:
    """As OmegaConf reads it: 1e-5 is a number, `${a.b}` another key's value, a repeated key an error."""
    from omegaconf import OmegaConf

    return _read(text, lambda: OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=True))


def read_override(text: str) -> Any:
    """KEY=VALUE with a dotted key as nested sections. Raises YamlError."""
    from omegaconf import OmegaConf

    value = text.partition("=")[2]
    return _read(value, lambda: OmegaConf.to_container(OmegaConf.from_dotlist([text]), resolve=True))


def wrong_kind(path: str | Path, keys: Iterable[Any], wanted: str) -> str | None:
    """That the file with these keys is of another kind than wanted, and which command reads it."""
    found, wanted_keys = set(map(str, keys)), _KINDS[wanted][0]
    for kind, (own, command) in _KINDS.items():
        if kind != wanted and own & found and not wanted_keys & found:
            return f"{path} is {kind}, not {wanted}: `{command.format(path)}` reads it"
    return None


def _read(text: str, read: Callable[[], Any]) -> Any:
    try:
        _check_shape(text)
        value = read()
    except YamlError:
        raise
    except Exception as error:  # of YAML, of a value that its tag does not fit, of an interpolation
        raise YamlError(_reason(error)) from error
    _check_values(value)
    return value


def shown(value: Any) -> str:
    """A value on one line of a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def _reason(error: Exception) -> str:
    text = str(error).strip()
    kind = "" if isinstance(error, yaml.YAMLError) else f"{type(error).__name__}: "
    return kind + (text if len(text) <= 400 else f"{text[:400]}...")


def _check_shape(text: str) -> None:
    """Refuses too deep or large text and repeated keys, by the parser's events, which needs no recursion."""
    keys = _Keys()
    sizes: list[int] = []  # of the collections that are open, in nodes
    names: list[str | None] = []  # their anchors
    anchored: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        keys.see(event)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(sizes) == MAX_DEPTH:
                raise YamlError(f"line {event.start_mark.line + 1} is nested more than {MAX_DEPTH} deep")
            sizes.append(1)
            names.append(event.anchor)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            size, name = sizes.pop(), names.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                raise YamlError(f"line {event.start_mark.line + 1}: *{event.anchor} stands inside itself")
            size, name = anchored.get(event.anchor, 1), None
        elif isinstance(event, yaml.ScalarEvent):
            size, name = 1, event.anchor
        else:
            continue
        if name is not None:
            anchored[name] = size
        if sizes:
            sizes[-1] += size
        if size > MAX_NODES or (sizes and sizes[-1] > MAX_NODES):
            raise YamlError(f"it holds more than {MAX_NODES:,} values, counting what aliases stand for")


class _Keys:
    """Refuses a key that comes twice in one mapping; fed with the parser's events in order."""

    def __init__(self) -> None:
        self._open: list[dict[str, int] | None] = []  # {key: its line} of the open mappings, None for a list
        self._is_key: list[bool] = []  # is the next node of it a key?

    def see(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._is_key.pop()
            return
        if not isinstance(event, yaml.NodeEvent):
            return
        if self._open and (lines := self._open[-1]) is not None:
            if self._is_key[-1] and isinstance(event, yaml.ScalarEvent):
                self._add(lines, event.value, event.start_mark.line + 1)
            self._is_key[-1] = not self._is_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append({} if isinstance(event, yaml.MappingStartEvent) else None)
            self._is_key.append(True)

    @staticmethod
    def _add(lines: dict[str, int], key: str, line: int) -> None:
        if key in lines:
            raise YamlError(f"line {line}: the key {shown(key)} was there before, in line {lines[key]}")
        lines[key] = line


def _check_values(value: Any, key: str = "") -> None:
    """Refuses integers beyond 64 bits, and text that no file or path can hold."""
    where = f"{key}: " if key else ""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(name, key)
            _check_values(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple | set):
        for inner in value:
            _check_values(inner, key)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        bits = value.bit_length()
        raise YamlError(f"{where}a whole number of {bits:,} bits is too large; 63 are the most")
    elif isinstance(value, str):
        if "\0" in value:
            raise YamlError(f"{where}the text holds a NUL character (\\0)")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise YamlError(f"{where}the text holds half of a surrogate pair, which is no Unicode")
