"""Our results in the form of the paper's Tables 1 and 2, beside its figures, with what sets them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
Results = dict[str, Any]  # what results.json holds


def tables(results: Iterable[Results]) -> str:
    """Every table of the paper that some result belongs to. Raises ValueError where none does."""
    by_model: dict[str, list[Results]] = {}
    for result in results:
        by_model.setdefault(_short(result["model"]["path"]), []).append(result)
    footnotes: dict[str, str] = {}
    parts = []
    for name, published in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")).items():
        ours = [
            row
            for model, found in by_model.items()
            for row in _our_rows(model, _of_table(name, found, published["columns"]), published, footnotes)
        ]
        if ours:
            theirs = [[label, *(f"{v:.1f}" for v in values)] for label, values in published["rows"].items()]
            table = _layout([["", *published["titles"]]], theirs, ours)
            parts.append(f"{table}\npublished: {published['source']}")
    if not parts:
        raise ValueError("none of these results belongs to a table of the paper (text sets, Geometry3K)")
    notes = [f"[{mark}] {text}" for text, mark in footnotes.items()]
    return "\n\n".join([*parts, "\n".join(["ours: ± is half the 95% interval over questions", *notes])])


def _of_table(name: str, results: Sequence[Results], columns: Sequence[str]) -> dict[str, list[Results]]:
    """{column: results}. Of MATH500 the `moe` table takes only results with the model's own chat template."""
    found: dict[str, list[Results]] = {}
    for result in results:
        base = result["name"].partition("+")[0]
        chat = result["template"]["name"] == "chat" and base == "math500"
        if base in columns and (name != "moe" or chat):
            found.setdefault(base, []).append(result)
    return found


def _our_rows(
    model: str, found: dict[str, list[Results]], published: dict[str, Any], footnotes: dict[str, str]
) -> list[list[str]]:
    """A row per model, and per setting where a column has several results."""
    rows = []
    for i in range(max(map(len, found.values()), default=0)):
        chosen = [next(iter(found.get(column, [])[i:]), None) for column in published["columns"]]
        cells = ["-" if result is None else _cell(result, footnotes) for result in chosen]
        if len(published["titles"]) > len(published["columns"]):
            whole = [result["pass@1"] for result in chosen if result is not None]
            cells.append(f"{100 * sum(whole) / len(whole):.1f}" if len(whole) == len(chosen) else "-")
        rows.append([model, *cells])
    return rows


def _cell(result: Results, footnotes: dict[str, str]) -> str:
    """The figure, with marks for what sets it apart from the published protocol."""
    low, high = result["ci95"]
    backend, said = result["backend"], list(result["notes"])
    if backend["name"] != "vllm" or backend["dtype"] != "bfloat16":
        said.append(f"{backend['name']} in {backend['dtype']}, the paper vLLM in bfloat16")
    marks = sorted(footnotes.setdefault(text, str(len(footnotes) + 1)) for text in said)
    return f"{100 * result['pass@1']:.1f}±{50 * (high - low):.1f}" + f" [{','.join(marks)}]" * bool(marks)


def _layout(*parts: list[list[str]]) -> str:
    """Rows in columns of one width, a rule between the parts."""
    columns = list(zip(*(row for part in parts for row in part)))
    widths = [max(map(len, column)) for column in columns]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return f"\n{rule}\n".join("\n".join(map(line, part)) for part in parts)


def _short(path: str) -> str:
    """A hub id as it is; of a longer path the last two parts that say something."""
    parts = [part for part in Path(path).parts if part not in ("huggingface", "checkpoints", "/")]
    return "/".join(parts[-2:]) or path
