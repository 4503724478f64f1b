"""Our results in the form of the paper's Tables 1, 2 and 6, beside its figures, with what sets them apart."""

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
            for row in _rows_of(model, _of_table(name, found, published["columns"]), published, footnotes)
        ]
        if ours:
            theirs = [[label, *(f"{v:.1f}" for v in values)] for label, values in published["rows"].items()]
            table = _layout([["", *published["titles"]]], theirs, ours)
            parts.append(f"{table}\npublished: {published['source']}")
    if not parts:
        raise ValueError(
            "none of these results belongs to a table of the paper (text sets, Geometry3K, ALFWorld)"
        )
    notes = [f"[{mark}] {text}" for text, mark in footnotes.items()]
    return "\n\n".join(
        [*parts, "\n".join(["ours: ± is half the 95% interval over questions or games", *notes])]
    )


def _of_table(name: str, results: Sequence[Results], columns: Sequence[str]) -> dict[str, list[Results]]:
    """{column: results}. Of MATH500 the `moe` table takes only results with the model's own chat template."""
    found: dict[str, list[Results]] = {}
    for result in results:
        base = result["name"].partition("+")[0]
        chat = result["template"]["name"] == "chat" and base == "math500"
        if base in columns and (name != "moe" or chat):
            found.setdefault(base, []).append(result)
    return found


def _rows_of(
    model: str, found: dict[str, list[Results]], published: dict[str, Any], footnotes: dict[str, str]
) -> list[list[str]]:
    if "categories" in published:
        return [
            _row_by_category(model, result, published["categories"], footnotes)
            for results in found.values()
            for result in results
        ]
    return _our_rows(model, found, published, footnotes)


def _row_by_category(
    model: str, result: Results, categories: Sequence[str], footnotes: dict[str, str]
) -> list[str]:
    """A result's categories and its whole."""
    shares = [result.get("categories", {}).get(category) for category in categories]
    cells = ["-" if share is None else _figure(share["value"], share["ci95"]) for share in shares]
    backend = result["backend"]
    said = [*result["notes"], f"{backend['name']} in {backend['dtype']}"]
    return [
        f"{model}, {result['name']}",
        *cells,
        _figure(result["pass@1"], result["ci95"]) + _marks(said, footnotes),
    ]


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
    backend, said = result["backend"], list(result["notes"])
    if backend["name"] != "vllm" or backend["dtype"] != "bfloat16":
        said.append(f"{backend['name']} in {backend['dtype']}, the paper vLLM in bfloat16")
    return _figure(result["pass@1"], result["ci95"]) + _marks(said, footnotes)


def _figure(share: float, interval: Sequence[float] | None) -> str:
    return f"{100 * share:.1f}" + ("" if interval is None else f"±{50 * (interval[1] - interval[0]):.1f}")


def _marks(said: Sequence[str], footnotes: dict[str, str]) -> str:
    """Numbers of the footnotes with these texts."""
    marks = sorted(footnotes.setdefault(text, str(len(footnotes) + 1)) for text in said)
    return f" [{','.join(marks)}]" * bool(marks)


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
