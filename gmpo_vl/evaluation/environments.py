"""The section `environment` of a protocol: what is played, with a run's keys (docs/environments.md).

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args, get_origin

from gmpo_vl.config.schema import EnvironmentConfig, all_keys
from gmpo_vl.environments.loading import EnvironmentMaker, load_environment
from gmpo_vl.storage.names import nearest_or_all

GAME = "game"  # the grader of games: they say themselves whether they were won


def whole_section(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Every key of the section, those that are not given as a run's configuration has them.

    Raises ValueError for a key that is unknown or holds what it cannot. where: begins the message.
    """
    keys = all_keys(EnvironmentConfig)
    if unknown := [str(key) for key in given if key not in keys]:
        raise ValueError(f"{where}: environment.{unknown[0]} is no key{nearest_or_all(unknown[0], keys)}")
    if not given.get("name"):
        raise ValueError(f"{where}: environment.name is missing: it says what is played, such as alfworld")
    for key, value in given.items():
        kinds = tuple(get_origin(kind) or kind for kind in get_args(keys[key].type) or (keys[key].type,))
        if get_origin(keys[key].type) is dict:
            kinds = (dict,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            words = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"{where}: environment.{key} is {value!r:.80}, but must be of type {words}")
        rule = keys[key].rule
        if rule is not None and not rule[0](value):
            raise ValueError(f"{where}: environment.{key} is {value!r}, but {rule[1]}")
    return asdict(EnvironmentConfig(**given))


def load_section(section: Mapping[str, Any]) -> EnvironmentMaker | None:
    """What makes a row's game; None for a protocol of questions. Raises what `load_environment` does."""
    if not section:
        return None
    of = EnvironmentConfig(**section)
    return load_environment(str(of.name), of.settings, of.template, of.isolate)


def facts_of_games(make: EnvironmentMaker) -> dict[str, str]:
    """What results state beside the protocol: the text of a turn, which may be a file, and the sha256 of a
    class of one's own."""
    facts = {"name": make.name, "template": make.template}
    digest = make.class_hash()
    return facts if digest is None else {**facts, "sha256": digest}
