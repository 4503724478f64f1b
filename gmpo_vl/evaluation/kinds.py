"""Questions sorted by the columns of their rows, and by the types of their golds.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmpo_vl.samples import SampleRecord

GOLD_TYPE = "gold type"
KINDS = ("category", "family", "subject", "level", "type", "benchmark", GOLD_TYPE)
MOST_KINDS = 40  # values of a column worth a table

Groups = Sequence[list[SampleRecord]]


def by_column(groups: Groups) -> dict[str, dict[str, list[list[SampleRecord]]]]:
    """{column: {value: its questions}} of every column of the rows that sorts questions, and of the golds'
    types. groups: each question's samples.

    A column that nobody knows sorts them where it has at least two questions of a kind on average.
    """
    tables = {}
    own = {column: None for group in groups for column in group[0].meta if column not in KINDS}
    for column in (*KINDS, *own):
        found: dict[str, list[list[SampleRecord]]] = {}
        for group in groups:
            value = group[0].gold_type if column == GOLD_TYPE else group[0].meta.get(column)
            if value is not None:
                found.setdefault(str(value).replace("_", " "), []).append(group)
        most = len(groups) // 2 if column in own else MOST_KINDS
        if 1 < len(found) <= min(most, MOST_KINDS):
            tables[column] = dict(sorted(found.items()))
    return tables
