"""Reads settings from YAML files and `a.b=c` overrides, and writes them back so that they read the same."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from gmpo_vl.config.checks import check
from gmpo_vl.config.schema import Config, ConfigError, all_keys, value_of
from gmpo_vl.config.unknown_keys import INSTEAD, instead_of
from gmpo_vl.storage.files import write_text
from gmpo_vl.storage.yaml_text import MAX_DEPTH, YamlError, read_override, read_settings, shown, wrong_kind

_MAY_BE_EMPTY = ("data.val_files",)  # no validation
_OF_NO_USE = ("worker.critic",)  # files saved before this was one key hold all of its defaults
# Of keys whose default has changed: files saved before hold it, and nobody wrote it.
_FORMER_DEFAULTS = {"worker.actor.tau_positive": 1.0, "worker.actor.tau_negative": 1.05}
_MOST_BASES = 20
_MOST_PROBLEMS = 20  # that a message lists

Source = tuple[str, dict[str, Any]]  # (where it was written, {dotted key: value})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, first the files it names as `base` (relative to itself), then `a.b=c` overrides, and
    checks it all.

    Raises ConfigError for a file that cannot be read, an unknown key, a wrong type, settings that contradict
    each other, and a written key that changes the mathematics but that the engine does not support. Keys
    never written are never refused.
    """
    sources = [*_read_file(Path(path)), *(_read_override(text) for text in overrides)]
    config, problems = _assign(sources)
    _raise_if(problems)
    origin = {key: where for where, values in sources for key in values}
    config.written = frozenset(origin)
    _derive(config)
    _raise_if(check(config, origin))
    return config


def save_as_written(source: str | Path, path: str | Path) -> None:
    """Write what a file and its bases say into one file, merged as `load_config` merges them. Settings may
    contradict each other: overrides complete them.

    Raises ConfigError where a file cannot be read, and for unknown keys and wrong types.
    """
    from omegaconf import OmegaConf

    sources = _read_file(Path(source))
    config, problems = _assign(sources)
    _raise_if(problems)
    written = {key: value_of(config, key) for _, values in sources for key in values}
    write_text(Path(path), f"# What {Path(source).name} and its bases said.\n" + OmegaConf.to_yaml(written))


def save_config(config: Config, path: str | Path) -> None:
    """Writes every setting, and which of them were written by a person:

    `load_config` gives back an equal Config.
    """
    from omegaconf import OmegaConf  # here and below: who makes a Config without a file needs none

    values = asdict(config)
    values["written"] = sorted(config.written)
    header = "# Every setting of this run. `written` lists what a person wrote; the rest are defaults.\n"
    write_text(Path(path), header + OmegaConf.to_yaml(OmegaConf.create(values)))


def changed_settings(path: Path, config: Config) -> list[str]:
    """Dotted keys whose values in a saved file are not the configuration's. The file's settings are not
    checked: they may be another version's, or name what has moved since.

    Raises ConfigError where it cannot be read.
    """
    if b"\nwritten:" not in path.read_bytes():  # its last section
        raise ConfigError(f"{path} is cut off")
    (_, before), default = _read_file(path)[-1], Config()
    default.trainer.experiment_name = before.get("trainer.experiment_name", default.trainer.experiment_name)
    _derive(default)  # the file leaves out what equals this
    changed = [
        key
        for key in all_keys()
        if key not in _OF_NO_USE and before.get(key, value_of(default, key)) != value_of(config, key)
    ]
    return [*changed, *(f"{key} (no longer a setting)" for key in before if key not in all_keys())]


def _derive(config: Config) -> None:
    """Fills the settings that others decide."""
    if config.trainer.save_checkpoint_path is None:
        config.trainer.save_checkpoint_path = str(Path("runs") / config.trainer.experiment_name)


def _read_file(path: Path, seen: tuple[Path, ...] = ()) -> list[Source]:
    """What a file sets, after what its bases set."""
    try:
        path = path.expanduser()
        resolved = path.resolve()
        if resolved in seen:
            chain = " -> ".join(str(p) for p in [*seen, resolved])
            raise ConfigError(f"`base` goes in a circle: {chain}")
        if len(seen) == _MOST_BASES:
            raise ConfigError(f"{path}: more than {_MOST_BASES} files name each other as `base`")
        tree = read_settings(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}" + _near_file(path)) from None
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the ~ of nobody
        raise ConfigError(f"{str(path)[:300]} cannot be read as YAML: {str(error)[:500]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path} holds a list; a config file holds sections: data, algorithm, worker, trainer"
        )
    if said := wrong_kind(path, tree, "a run's configuration"):
        raise ConfigError(said)
    sections = {str(key): value for key, value in tree.items()}
    base, listed = sections.pop("base", None), sections.pop("written", None)
    values = _flatten(sections)
    if listed is not None:
        if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
            raise ConfigError(
                f"{path}: written is {shown(listed)}, but lists the keys that a person wrote, as saved"
            )
        values = _written_in_saved_file(values, set(listed))
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{path}: base is {shown(base)}, but must be the path of another config file")
    sources = _read_file(path.parent / base, (*seen, resolved)) if base is not None else []
    return [*sources, (str(path), values)]


def _written_in_saved_file(values: dict[str, Any], listed: set[str]) -> dict[str, Any]:
    """In a saved file every key stands; a person wrote the listed ones, and those edited since or unlike
    the defaults, today's and former ones.
    """
    default = Config()
    default.trainer.experiment_name = values.get("trainer.experiment_name", default.trainer.experiment_name)
    _derive(default)
    nobodys = {key: [value_of(default, key)] for key in all_keys()}
    for key, former in _FORMER_DEFAULTS.items():
        nobodys[key].append(former)
    return {key: value for key, value in values.items() if key in listed or value not in nobodys.get(key, [])}


def _read_override(text: str) -> Source:
    where = f"override {shown(text)}"
    key, _, value = text.partition("=")
    if not key.strip() or (not value.strip() and key.strip() not in _MAY_BE_EMPTY):
        raise ConfigError(
            f"{where} sets nothing: write KEY=VALUE, for example worker.rollout.n=8, or KEY=null for no value"
        )
    if key.count(".") + key.count("[") > MAX_DEPTH:
        raise ConfigError(f"{where}: no key has so many parts")
    try:
        tree = read_override(text)
    except YamlError as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    assert isinstance(tree, dict)
    return where, _flatten({str(key): value for key, value in tree.items()})


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys.

    Stops at a key of the schema: a dict there is its value. Empty sections vanish, and so does the null of a
    key that is gone.
    """
    flat = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if not value and value != 0 and any(known.startswith(key + ".") for known in all_keys()):
            continue
        if key not in all_keys() and isinstance(value, dict) and value:
            flat.update(_flatten(value, key + "."))
        elif not (key in INSTEAD and value is None):
            flat[key] = value
    return flat


def _assign(sources: list[Source]) -> tuple[Config, list[str]]:
    """The sources' values over the defaults, later ones winning, of mappings entry by entry; and what is
    wrong with each value that did not fit.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree, types = deepcopy(_defaults()), {name: key.type for name, key in all_keys().items()}
    problems: list[str] = []
    for where, values in sources:
        for key, value in values.items():
            if key in _MAY_BE_EMPTY and not value:
                value = ""  # null and [] say the same
            if key in INSTEAD:
                problems.append(f"{where}: there is no key {key}; {INSTEAD[key]}")
            elif key not in types:
                if any(known.startswith(key + ".") for known in types):
                    problems.append(
                        f"{where}: {key} is a section, not a value ({shown(value)}): write {key}.NAME"
                    )
                else:
                    hint = instead_of(key, types) if len(problems) < _MOST_PROBLEMS else ""
                    problems.append(f"{where}: there is no key {key[:200]}{hint}")
            elif _is_missing(value):
                problems.append(
                    f"{where}: {key} is ???, which stands for a value that is still to be written"
                )
            elif types[key] is bool and isinstance(value, int | float) and not isinstance(value, bool):
                problems.append(f"{where}: {key} is {value!r}, but it is a switch: write true or false")
            elif types[key] in (str, str | None) and isinstance(value, bool | int | float):
                problems.append(
                    f"{where}: {key} is {value!r} as YAML reads it, but must be text: put it in quotes (on a "
                    "command line "
                    f"'{key}=\"...\"')"
                )
            elif not _is_flat(value, types[key]):
                problems.append(f"{where}: {key} is {shown(value)}, but must be {_type_name(types[key])}")
            else:
                try:
                    # Entries of mappings are set one by one, and {} takes them all away.
                    # OmegaConf 2.3 cannot merge a mapping into null.
                    merge = value != {} and OmegaConf.select(tree, key) is not None
                    OmegaConf.update(tree, key, value, merge=merge)
                except OmegaConfBaseException:
                    problems.append(f"{where}: {key} is {shown(value)}, but must be {_type_name(types[key])}")
    if problems:
        return Config(), problems
    config = OmegaConf.to_object(tree)
    assert isinstance(config, Config)
    return config, problems


def _is_missing(value: Any) -> bool:
    """Does it hold OmegaConf's mark of a value that is not there?"""
    if isinstance(value, dict | list):
        return any(map(_is_missing, value.values() if isinstance(value, dict) else value))
    return value == "???"


def _is_flat(value: Any, hint: Any) -> bool:
    """OmegaConf takes a list within a list of numbers."""
    is_list = "list[" in str(hint) and isinstance(value, list)
    return not is_list or not any(isinstance(item, list | dict) for item in value)


@cache
def _defaults() -> Any:
    """The schema as OmegaConf checks it; building it takes six times as long as copying it."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(Config)


def _type_name(hint: Any) -> str:
    names = {
        "str": "text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "None": "null",
        "list[float]": "a list of numbers",
        "list[str]": "a list of names",
        "dict[str, typing.Any]": "a mapping",
        "dict[str, float]": "a mapping of names to numbers",
    }
    text = hint.__name__ if isinstance(hint, type) and hint in (str, int, float, bool) else str(hint)
    return " or ".join(names[part] for part in text.split(" | "))


def _near_file(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _raise_if(problems: list[str]) -> None:
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        raise ConfigError("\n".join(problems[:_MOST_PROBLEMS] + ([f"and {more:,} more"] if more > 0 else [])))
