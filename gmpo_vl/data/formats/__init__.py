"""How each file format gives rows: parquet and arrow (through `datasets`), JSON, tables as text.

rows   what all of them give          arrow   parquet, arrow
text   the encoding of a text file    json    lines, an array, one object    delimited   CSV, TSV and the like

Rows of JSON and of tables are found by their offsets and parsed when they are asked for. So one broken line,
or a column of mixed types, costs that row only.
"""

from gmpo_vl.data.formats.arrow import ArrowRows, check_arrow, check_parquet
from gmpo_vl.data.formats.delimited import DELIMITERS, DelimitedRows
from gmpo_vl.data.formats.json import json_rows, no_part
from gmpo_vl.data.formats.rows import ListRows, Row, Rows, as_object, rows_or_errors

__all__ = [
    "DELIMITERS",
    "ArrowRows",
    "DelimitedRows",
    "ListRows",
    "Row",
    "Rows",
    "as_object",
    "check_arrow",
    "check_parquet",
    "json_rows",
    "no_part",
    "rows_or_errors",
]
