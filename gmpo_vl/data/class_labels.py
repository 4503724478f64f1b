"""Classes that `datasets` stores as numbers, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def has_classes(feature: Any) -> bool:
    """Does a feature of `datasets` hold a ClassLabel, itself or inside?"""
    inner = [feature.feature] if hasattr(feature, "feature") else feature
    inner = inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, list) else ()
    return hasattr(feature, "int2str") or any(map(has_classes, inner))


def class_names(value: Any, feature: Any) -> Any:
    """A value with the names of its classes; None for a class without one (-1: not labelled)."""
    if hasattr(feature, "int2str"):
        return feature.names[value] if value is not None and 0 <= value < len(feature.names) else None
    if isinstance(value, Mapping) and isinstance(feature, Mapping):
        return {name: class_names(inner, feature[name]) for name, inner in value.items()}
    if isinstance(value, list):
        item = feature[0] if isinstance(feature, list) else feature.feature
        return [class_names(inner, item) for inner in value]
    return value
