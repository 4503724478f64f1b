"""Our results in the form of the paper's Tables 1 and 2, beside its figures, with what sets them apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
Row = list[str]


def tables(results: Iterable[dict[str, Any]]) -> str:
    """Every table of the paper that some result belongs to. Raises ValueError where none does."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_model.setdefault(f"{_short(result['model']['path'])}", []).append(result)
    footnotes: dict[str, str] = {}
    parts = []
    for name, published in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")).items():
        rows = [
            row
            for model, found in by_model.items()
            for row in _our_rows(model, _of_table(name, found, published["columns"]), published, footnotes)
        ]
        if rows:
            printed = [
                [label, *(f"{value:.1f}" for value in values)] for label, values in published["rows"].items()
            ]
            parts.append(
                _layout(["", *published["titles"]], printed, rows) + f"\npublished: {published['source']}"
            )
    if not parts:
        raise ValueError("none of these results belongs to a table of the paper (text sets, Geometry3K)")
    notes = [f"[{mark}] {text}" for text, mark in footnotes.items()]
    return "\n\n".join([*parts, "\n".join(["ours: ± is half the 95% interval over questions", *notes])])


def _of_table(
    name: str, results: list[dict[str, Any]], columns: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """{column: results}. MATH500 with the model's own chat template is the mixture-of-experts table's, and not the other's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        base = result["name"].partition("+")[0]
        chat = result["template"]["name"] == "chat" and base == "math500"
        if base in columns and (name != "moe" or chat):
            found.setdefault(base, []).append(result)
    return found


def _our_rows(
    model: str, found: dict[str, list[dict[str, Any]]], published: dict[str, Any], footnotes: dict[str, str]
) -> list[Row]:
    """A row per model, and per setting where a column has several results."""
    depth = max((len(column) for column in found.values()), default=0)
    rows = []
    for i in range(depth):
        chosen = [found[c][i] if c in found and i < len(found[c]) else None for c in published["columns"]]
        cells = ["-" if result is None else _cell(result, footnotes) for result in chosen]
        if len(published["titles"]) > len(published["columns"]):
            whole = [result["pass@1"] for result in chosen if result is not None]
            cells.append(f"{100 * sum(whole) / len(whole):.1f}" if len(whole) == len(chosen) else "-")
        rows.append([model, *cells])
    return rows


def _cell(result: dict[str, Any], footnotes: dict[str, str]) -> str:
    low, high = result["ci95"]
    marks = sorted(_mark(text, footnotes) for text in _differences(result))
    return f"{100 * result['pass@1']:.1f}±{50 * (high - low):.1f}" + (
        f" [{','.join(marks)}]" if marks else ""
    )


def _differences(result: dict[str, Any]) -> list[str]:
    """What sets a result apart from the published protocol."""
    backend, said = result["backend"], list(result["notes"])
    if backend["name"] != "vllm" or backend["dtype"] != "bfloat16":
        said.append(f"{backend['name']} in {backend['dtype']}, the paper vLLM in bfloat16")
    return said


def _mark(text: str, footnotes: dict[str, str]) -> str:
    return footnotes.setdefault(text, str(len(footnotes) + 1))


def _layout(header: Row, published: list[Row], ours: list[Row]) -> str:
    every = [header, *published, *ours]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]

    def line(row: Row) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, published), rule, *map(line, ours)])


def _short(path: str) -> str:
    """A hub id as it is; of a longer path the last two parts that say something."""
    parts = [part for part in Path(path).parts if part not in ("huggingface", "checkpoints", "/")]
    return "/".join(parts[-2:]) or path
