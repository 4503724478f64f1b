"""No row is lost without a word: what follows the end of a file's rows, or swallows them, is said."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError

ROWS = [{"problem": f"x{i}?", "answer": str(i)} for i in range(6)]
ONE, TWO = json.dumps(ROWS[:1]), json.dumps(ROWS[1:2])


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_examples(str(path), on_bad_row="skip")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        ONE + TWO,
        f"{ONE}\n{TWO}\n",
        f"{ONE},{TWO}",
        f"{ONE},",
        f"{ONE}]",
        f"{ONE}\0",
        f"{ONE} // end",
        ONE + " " * 2**20 + TWO,
        f"{ONE[:-1]}}},{TWO[1:]}",
    ],
)
def test_what_follows_an_array_is_no_silent_loss(text, tmp_path):
    said = refusal(tmp_path / "a.json", text.encode())
    assert "more follows" in said or "a } closes it" in said


def test_blanks_around_an_array_are_nothing(tmp_path):
    (tmp_path / "a.json").write_text(" " * 3000 + ONE + "\n" * 3000)
    assert len(load_examples(str(tmp_path / "a.json"))) == 1


def test_a_quote_that_nothing_closes_swallows_no_rows(tmp_path):
    for answer in ('"1', '"1""'):
        said = refusal(tmp_path / "a.csv", f"problem,answer\nx0?,0\nx1?,{answer}\nx2?,2\nx3?,3\n".encode())
        assert "begins in line 3 opens a quote" in said
    assert "line 1" in refusal(tmp_path / "a.csv", b'"problem,answer\nx0?,0\n')


def test_a_quote_that_another_row_closes_swallows_no_rows(tmp_path):
    said = refusal(tmp_path / "a.csv", b'problem,answer\nx0?,0\nx1?,"1\nx2?,"2"\nx3?,3\n')
    assert "begins in line 3 opens a quote that line 4 closes" in said


def test_an_empty_file_among_others_is_told(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]))
    for suffix in ("jsonl", "json", "csv", "tsv", "parquet", "arrow"):
        empty = tmp_path / f"b.{suffix}"
        empty.touch()
        with pytest.raises(DataError, match=rf"b\.{suffix}: no usable row: the file has 0 bytes"):
            load_examples(str(tmp_path))
        empty.unlink()


def stream(*parts: list[dict], as_file: bool = False) -> bytes:
    """An arrow stream (or file) with a batch for each part."""
    buffer = io.BytesIO()
    tables = [pa.Table.from_pylist(part) for part in parts]
    with (pa.ipc.new_file if as_file else pa.ipc.new_stream)(buffer, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return buffer.getvalue()


def test_arrow_files_are_read_to_their_end_or_refused(tmp_path):
    both, first, second = stream(ROWS[:3], ROWS[3:]), stream(ROWS[:3]), stream(ROWS[3:])
    file = stream(ROWS[:3], as_file=True)
    for whole, count in ((both, 6), (file, 3)):
        (tmp_path / "whole.arrow").write_bytes(whole)
        assert len(load_examples(str(tmp_path / "whole.arrow"))) == count
    between_batches = both[: len(first) - 8]
    assert both.startswith(between_batches)
    for content, said in (
        (first + second, "would be lost"),
        (first + b"\n", "would be lost"),
        (file + stream(ROWS[3:], as_file=True), "would be lost"),
        (file + b"\n", "does not end as an arrow file"),
        (between_batches, "has no end mark"),
        (both[:-8], "has no end mark"),
    ):
        assert said in refusal(tmp_path / "a.arrow", content)


def test_a_saved_data_set_cut_between_batches_is_refused(tmp_path):
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    file = next((tmp_path / "saved").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"\.arrow: the file is cut"):
        load_examples(str(tmp_path / "saved"))


def test_parquet_files_put_together_are_refused(tmp_path):
    parts = []
    for rows in (ROWS[:3], ROWS[3:]):  # of equal length: the last footer fits the first file's rows
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "part.parquet", write_page_index=True)
        assert len(load_examples(str(tmp_path / "part.parquet"))) == 3
        parts.append((tmp_path / "part.parquet").read_bytes())
    assert "would be lost" in refusal(tmp_path / "a.parquet", b"".join(parts))
