"""Files of other harnesses that are damaged, large by statement alone, or not laid out as usual."""

import json
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from imports import KIT, ROWS, lmms_file, lmms_line

from gmpo_vl.runs import EvaluationFolder

openpyxl = pytest.importorskip("openpyxl")  # of the extra `import`
HEAD = ["index", "question", "answer", "prediction"]


def workbook(path: Path, *rows, others: dict[str, list] | None = None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name, content in (others or {}).items():
        sheet = book.create_sheet(name)
        for row in content:
            sheet.append(row)
    book.save(path)
    return path


def changed(path: Path, **parts: bytes | None) -> Path:
    """The workbook with other bytes in the parts whose name ends so; None takes a part out."""
    with zipfile.ZipFile(path) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    for end, data in parts.items():
        (name,) = (name for name in content if name.endswith(end.replace("__", ".")))
        content.pop(name)
        content |= {} if data is None else {name: data}
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return path


@pytest.fixture
def book(tmp_path) -> Path:
    return workbook(tmp_path / "T_X.xlsx", HEAD, [1, "Why?", "a", "a"], [2, "How?", "b", "a"])


@pytest.fixture
def refused(gmpo_vl, tmp_path):
    return lambda path, *options: gmpo_vl("eval", "import", path, "--out", tmp_path / "out", *options, code=2)


@pytest.fixture
def imported(gmpo_vl, tmp_path):
    def run(path: Path, *options) -> tuple[dict, list]:
        gmpo_vl("eval", "import", path, "--out", tmp_path / "out", "--name", "x", *options)
        folder = EvaluationFolder(tmp_path / "out" / "x-imported")
        return folder.results(), list(folder.samples())

    return run


SHEET = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'


@pytest.mark.parametrize(
    "parts",
    [
        {"sheet1__xml": b"<worksheet><sheetData><row r='1'><c r='A1'"},
        {"sheet1__xml": SHEET % b'<row r="1"><c r="A1" t="s"><v>zz</v></c></row>'},
        {"sheet1__xml": SHEET % b'<row r="1"><c r="A1" t="s"><v>999</v></c></row>'},
        {"sheet1__xml": SHEET % b'<row r="x"><c r="A1"><v>1</v></c></row>'},
        {"sheet1__xml": SHEET % b'<row r="1"><c r="?"><v>1</v></c></row>'},
        {
            "sheet1__xml": b"<!--"
            + b" " * 5_000
            + b'--><!DOCTYPE x [<!ENTITY a "b">]><worksheet>&a;</worksheet>'
        },
        {"sheet1__xml": None},
        {"xl/workbook__xml": b"<workbook"},
        {"xl/workbook__xml": b"<workbook/>"},
        {"styles__xml": b"<styleSheet"},
        {"[Content_Types]__xml": None},
        {"xl/_rels/workbook__xml.rels": None},
        {"sheet1__xml": b""},
    ],
)
def test_a_damaged_workbook_is_one_sentence_with_its_path(refused, book, parts):
    said = refused(changed(book, **parts))
    assert said.count("\n") <= 1
    assert f"{book} is a damaged workbook: " in said or f"{book}: no row can be read" in said


def test_a_torn_workbook_is_one_sentence(refused, book):
    whole = book.read_bytes()
    for size in (100, len(whole) // 2, len(whole) - 10):
        book.write_bytes(whole[:size])
        assert f"{book} is a damaged workbook: " in refused(book)


def test_charts_alone_are_no_rows(refused, tmp_path):
    chart = openpyxl.Workbook()
    chart.remove(chart.active)
    chart.create_chartsheet("Chart").add_chart(openpyxl.chart.BarChart())
    chart.save(tmp_path / "T_X.xlsx")
    assert "is a damaged workbook" in refused(tmp_path / "T_X.xlsx")


def test_a_stated_size_makes_no_cells(book, imported, monkeypatch):
    """One cell in row 60,000, and XFD as the last column: 16,384 cells a row, were that believed."""
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

    def cells(column: str, number: int) -> bytes:
        texts = zip("ABC" + column, HEAD if number == 1 else ["1", "Why?", "a", "a"])
        inner = "".join(f'<c r="{c}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for c, text in texts)
        return f'<row r="{number}">{inner}</row>'.encode()

    stated = (
        b'<dimension ref="A1:XFD60000"/><sheetData>' + cells("D", 1) + cells("D", 60_000) + b"</sheetData>"
    )
    sheet = SHEET.replace(b"<sheetData>%s</sheetData>", b"%s") % stated
    made = 0
    whole = ReadOnlyWorksheet._cells_by_row  # pyright: ignore[reportAttributeAccessIssue]

    def counted(self, *args, **kwargs):
        nonlocal made
        seen = set()
        for row in whole(self, *args, **kwargs):
            made += 0 if id(row) in seen else len(row)  # the rows between are one and the same
            seen.add(id(row))
            yield row

    monkeypatch.setattr(ReadOnlyWorksheet, "_cells_by_row", counted)
    _, samples = imported(changed(book, sheet1__xml=sheet))
    assert [s.id for s in samples] == ["1"]
    assert made < 2_000


def test_more_columns_than_are_read_are_refused(refused, tmp_path):
    path = workbook(tmp_path / "T_X.xlsx", [*HEAD, *(f"c{i}" for i in range(300))], [1, "Why?", "a", "a"])
    assert "its first row has cells beyond column 256" in refused(path)


def test_a_row_s_number_may_be_any(refused, book):
    sheet = (
        SHEET % b'<row r="1"><c r="A1"><v>1</v></c></row><row r="99999999999"><c r="A2"><v>1</v></c></row>'
    )
    assert "it has rows beyond 1,048,576" in refused(changed(book, sheet1__xml=sheet))


@pytest.mark.parametrize("twice", ["prediction", "Prediction", "Answer", " answer "])
def test_two_columns_of_one_name_are_refused(refused, tmp_path, twice):
    path = workbook(tmp_path / "T_X.xlsx", [*HEAD, twice], [1, "Why?", "a", "a", "b"])
    assert f"several columns are called {twice.strip().lower()}" in refused(path)
    rows = [{**dict(zip(HEAD, [1, "Why?", "a", "a"])), twice.strip().upper(): "b"}]
    (tmp_path / "T_X.json").write_text(json.dumps(rows))
    assert f"several columns are called {twice.strip().lower()}" in refused(tmp_path / "T_X.json")


def test_which_of_several_sheets_was_read_is_told(refused, imported, tmp_path):
    others = {"Notes": [["seen"]], "More": [HEAD, [2, "How?", "b", "b"]]}
    path = workbook(tmp_path / "T_X.xlsx", HEAD, [1, "Why?", "a", "a"], others=others)
    results, samples = imported(path)
    assert len(samples) == 1
    assert any("the sheet 'Sheet' of 3 was read: Sheet, Notes, More" in note for note in results["notes"])
    path = workbook(tmp_path / "T_Y.xlsx", others=others)
    assert "(the sheet 'Sheet' of 3 was read" in refused(path)


@pytest.mark.parametrize("end", [" ", "\n", "_x000D_"])
def test_a_cell_is_full_as_it_was_stored(imported, tmp_path, end):
    text = "x" * (32_767 - len(end)) + end
    path = workbook(tmp_path / "T_X.xlsx", HEAD, [1, "Why?", "a", text], [2, "Why?", "a", text[2:]])
    results, samples = imported(path)
    assert [s.finished for s in samples] == [False, True]
    assert results["settings"]["imported"]["cut"] == 1


def test_escapes_of_a_workbook_are_the_characters(imported, tmp_path):
    path = workbook(tmp_path / "T_X.xlsx", HEAD, [1, "Why?", "a", "one_x000A_two_x0007_"])
    assert imported(path)[1][0].response == "one\ntwo\x07"


def test_a_row_with_more_cells_than_columns_is_left_out(imported, tmp_path):
    path = workbook(tmp_path / "T_X.xlsx", HEAD, [1, "Why?", "a", "a"], [2, "Why?", "a", "a", None, "more"])
    results, samples = imported(path)
    assert [s.id for s in samples] == ["1"]
    assert results["settings"]["imported"]["left_out"] == {"unreadable_row": 1}


def test_dates_and_rows_without_an_index_are_left_out(imported, tmp_path):
    rows = [[1, "Why?", datetime(2020, 5, 1), "a"], [2, "How?", "a", "a"], [None, "Who?", "a", "a"]]
    results, samples = imported(workbook(tmp_path / "T_X.xlsx", HEAD, *rows))
    assert [s.id for s in samples] == ["2"]
    assert results["settings"]["imported"]["left_out"] == {"gold": 1, "no_key": 1}
    bare = [{key: value for key, value in row.items() if key != "index"} for row in KIT]
    (tmp_path / "T_Y.json").write_text(json.dumps(bare))
    imported(tmp_path / "T_Y.json", "--out", tmp_path / "y")
    folder = EvaluationFolder(tmp_path / "y" / "x-imported")
    assert [s.id for s in folder.samples()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("before", "behind"), [("", ""), ("\n\n  \n", ""), ("", "\n \n"), ("\n", "\n\n")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_line_is_a_row_whatever_stands_around_it(imported, tmp_path, before, behind, encoding):
    path = lmms_file(tmp_path, [lmms_line(*ROWS[0])])
    path.write_text(before + path.read_text() + behind, encoding=encoding)
    assert [s.id for s in imported(path)[1]] == ["0"]


def test_lines_in_utf_16_are_read(imported, tmp_path):
    path = lmms_file(tmp_path)
    path.write_text(path.read_text(), encoding="utf-16")
    assert len(imported(path)[1]) == len(ROWS)


def test_a_table_may_begin_with_a_bracket(imported, tmp_path):
    path = tmp_path / "T_X.tsv"
    path.write_text("[id]\tindex\tanswer\tprediction\n{1}\t1\ta\ta\n")
    assert [s.id for s in imported(path)[1]] == ["1"]
