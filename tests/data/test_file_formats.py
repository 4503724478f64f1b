"""The same rows come out of every layout, separator and encoding that a table or a JSON file can have."""

import codecs
import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpo_vl.cli import main
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import BadRowsError, DataError
from gmpo_vl.data.sources import open_tables

ROWS = [
    {"question": "How many, {really}?", "answer": "3", "unit": "m"},
    {"question": 'The "[second]" one:\n\\frac{1}{2}', "answer": "[1, 2]", "unit": "}"},
    {"question": "x, y; z", "answer": "7", "unit": "km"},
]
KEYED = {f"q{i}": row for i, row in enumerate(ROWS)}
WITH_KEYS = [{"key": key, **row} for key, row in KEYED.items()]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
NUMBERED = {name: {str(i): value for i, value in enumerate(values)} for name, values in COLUMNS.items()}
LAYOUTS = {
    "array": (ROWS, ROWS),
    "keyed": (KEYED, WITH_KEYS),
    "keyed, one row": ({"q0": ROWS[0]}, WITH_KEYS[:1]),
    "list under data": ({"data": ROWS}, ROWS),
    "VQA": ({"info": {"year": 2017}, "license": "x", "questions": ROWS, "split": ["a", "b"]}, ROWS),
    "list beside an empty one": ({"questions": ROWS, "removed": []}, ROWS),
    "list beside a shorter one": ({"questions": ROWS, "types": ["a", "b"]}, ROWS),
    "columns": (COLUMNS, ROWS),
    "columns of pandas": (NUMBERED, ROWS),
    "one row": ({**ROWS[0], "options": [{"label": "A"}]}, [{**ROWS[0], "options": [{"label": "A"}]}]),
}


def read(path, part: str = "") -> list[dict]:
    """The rows, by number and in order."""
    (table,) = open_tables(f"{path}{part}")
    scanned = list(table.rows.scan([]))
    assert [table.rows[i] for i in range(len(table.rows))] == scanned
    return scanned


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_json_gives_its_rows(name, indent, suffix, tmp_path):
    value, expected = LAYOUTS[name]
    path = tmp_path / f"a.{suffix}"
    path.write_text("\n " + json.dumps(value, indent=indent) + "\n")
    assert read(path) == expected


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_lines_are_lines_whatever_the_file_is_called(suffix, tmp_path):
    (tmp_path / f"a.{suffix}").write_text("\n".join(map(json.dumps, ROWS)))
    assert read(tmp_path / f"a.{suffix}") == ROWS
    (tmp_path / f"b.{suffix}").write_text("{broken\n" + "\n\n".join(map(json.dumps, ROWS)))
    (table,) = open_tables(str(tmp_path / f"b.{suffix}"))
    assert [table.rows[i] for i in (1, 2, 3)] == ROWS


def test_an_object_whose_list_has_a_row_a_line(tmp_path):
    lines = ",\n".join(map(json.dumps, ROWS))
    for text, rows in ((f'{{"data": [\n{lines}\n]}}', ROWS), (f'{{"q":\n{json.dumps(ROWS[0])}\n}}', None)):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json") == (rows or [{"key": "q", **ROWS[0]}])


NAMES = st.text('a"\\{}[]: ,é', max_size=4)
ROW = st.dictionaries(NAMES, st.integers() | st.lists(NAMES), min_size=1)


@settings(max_examples=60)
@given(
    rows=st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.integers() | st.lists(NAMES), min_size=1), min_size=1
    ),
    indent=st.sampled_from([None, 1]),
    is_list=st.booleans(),
)
def test_keys_and_lists_of_any_text(rows, indent, is_list, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    value = {"info": 1, "rows": list(rows.values())} if is_list else rows
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert read(path) == (list(rows.values()) if is_list else [{"key": k, **row} for k, row in rows.items()])


def test_a_key_overwrites_no_column(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"q1": {"key": "mine", "question": "x?"}}))
    assert read(tmp_path / "a.json") == [{"key": "mine", "question": "x?"}]


def test_a_row_without_content_among_many_costs_that_row(tmp_path):
    rows = {f"q{i}": {"problem": "x?", "answer": i} for i in range(12)}
    (tmp_path / "a.json").write_text(json.dumps({**rows, "q12": None}))
    examples = load_examples(str(tmp_path / "a.json"), on_bad_row="skip")
    assert (len(examples), examples.faults.counts()) == (12, {"unreadable_row": 1})


def test_a_key_that_comes_twice_is_two_rows(tmp_path):
    (tmp_path / "a.json").write_text('{"q": {"n": 1}, "q": {"n": 2}}')
    assert read(tmp_path / "a.json") == [{"key": "q", "n": 1}, {"key": "q", "n": 2}]


def test_several_lists_are_no_guess(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": ROWS}))
    with pytest.raises(DataError, match=r"lists 'images', 'annotations' can all be the rows.*a.json@images"):
        open_tables(str(path))
    assert read(path, "@annotations") == ROWS
    path.write_text(json.dumps({"train": ROWS, "test": ROWS[:1]}))
    assert (read(path, "@test"), read(path, "@train")) == (ROWS[:1], ROWS)
    with pytest.raises(DataError, match=r"it has no list 'dev', but 'train', 'test'; .*a.json@train"):
        open_tables(f"{path}@dev")
    path.write_text(json.dumps({"test": ROWS}))
    with pytest.raises(DataError, match=r"it has no list 'train', but 'test'; .*a.json@test"):
        open_tables(f"{path}@train")
    path.write_text(json.dumps({"question": ["a", "b"], "answer": ["1"]}))
    with pytest.raises(DataError, match="their lengths differ"):
        open_tables(str(path))


def test_a_torn_object_is_refused_wherever_it_is_cut(tmp_path):
    for value in (KEYED, {"info": {}, "data": ROWS}, COLUMNS, NUMBERED):
        for text in (json.dumps(value), json.dumps(value, indent=1)):
            for cut in range(2, len(text), 5):
                (tmp_path / "a.json").write_text(text[:cut])
                with pytest.raises(DataError, match=r'not a JSON object of rows|where `"name": value`'):
                    open_tables(str(tmp_path / "a.json"))
            for more in ("x", "]", text):
                (tmp_path / "a.json").write_text(f"{text} {more}")
                with pytest.raises(DataError, match="more follows"):
                    open_tables(str(tmp_path / "a.json"))


def test_a_broken_value_costs_its_row_and_a_broken_column_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"q1": {"problem": "x?", "answer": 1}, "q2": {oops}}')
    examples = load_examples(str(tmp_path / "a.json"), on_bad_row="skip")
    assert (len(examples), examples.faults.counts()) == (1, {"unreadable_row": 1})
    (tmp_path / "b.json").write_text('{"q": ["a", "b"], "a": ["1", oops]}')
    with pytest.raises(DataError, match=r"b.json: no JSON in the column at byte 17"):
        open_tables(str(tmp_path / "b.json"))


def text_of(rows: list[dict], delimiter: str) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "tab", "txt", "CSV"])
def test_the_separator_is_seen_in_the_table(delimiter, suffix, tmp_path):
    (tmp_path / f"a.{suffix}").write_bytes(text_of(ROWS, delimiter).encode())
    assert read(tmp_path / f"a.{suffix}") == ROWS


def test_a_separator_inside_the_names_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("question;answer, in m\n1,5 plus 2?;3,5\n7?;8\n")
    assert read(tmp_path / "a.csv") == [
        {"question": "1,5 plus 2?", "answer, in m": "3,5"},
        {"question": "7?", "answer, in m": "8"},
    ]
    (tmp_path / "b.csv").write_text("question,answer;unit\nx,3\n")
    assert read(tmp_path / "b.csv") == [{"question": "x", "answer;unit": "3"}]


def test_a_text_file_among_tables_is_no_table(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\nx,3\n")
    (tmp_path / "README.txt").write_text("These are questions.\n")
    assert [table.label for table in open_tables(str(tmp_path))] == ["a"]


CHINESE = [
    {"问题": "如图所示，已知三角形ABC中，∠A＝60°，求BC的长度。", "答案": "5", "类型": "填空"},
    {"问题": "下列选项正确的是（ ）——选择“甲”还是《乙》？", "答案": "A", "类型": "选择题"},
    {"问题": "若√x＝4，则x的值为？", "答案": "±2", "类型": "计算"},
]
LATIN = [
    {"Frage": "Wie groß ist die Fläche? – „Höhe“ 5 m", "Antwort": "20 m²", "Größe": "für alle"},
    {"Frage": "Où est le carré créé à Noël ? L’aire…", "Antwort": "3½ €", "Größe": "ça"},
    {"Frage": "¿Cuál es el ángulo? 30°", "Antwort": "½", "Größe": "señor"},
]
IDEOGRAPHIC = [{"问题": "这是一个什么样的东西　请仔细看图并且回答下面的问题" * 2, "答案": "一"}] * 9
ENCODED = [
    *((IDEOGRAPHIC, name) for name in ("utf-16-le", "utf-16-be")),
    *((CHINESE, name) for name in ("gbk", "gb18030", "utf-8", "utf-8-sig")),
    *((LATIN, name) for name in ("cp1252", "utf-8", "utf-8-sig")),
    *((rows, name) for rows in (CHINESE, LATIN) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    (LATIN, "utf-16-be with its mark"),
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
@pytest.mark.parametrize(("rows", "encoding"), ENCODED)
def test_every_encoding_gives_the_same_rows_and_is_said(rows, encoding, kind, tmp_path, capsys):
    text = {
        "csv": text_of(rows, ","),
        "tsv": text_of(rows, "\t"),
        "json": json.dumps(rows, ensure_ascii=False, indent=1),
        "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
    }[kind]
    name, _, mark = encoding.partition(" ")
    (tmp_path / f"a.{kind}").write_bytes((codecs.BOM_UTF16_BE if mark else b"") + text.encode(name))
    assert read(tmp_path / f"a.{kind}") == rows
    assert capsys.readouterr().err.count("save it as UTF-8") == (not name.startswith("utf-8"))


@settings(max_examples=100)
@given(
    rows=st.lists(st.sampled_from([*CHINESE, *LATIN]), min_size=1, max_size=3),
    texts=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x9FFF), max_size=30), max_size=5),
)
def test_utf8_is_never_read_as_anything_else(rows, texts, tmp_path_factory):
    rows = [{"rows": list(row.items()), "texts": texts} for row in rows]
    path = tmp_path_factory.mktemp("utf8") / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert read(path) == json.loads(json.dumps(rows))


OTHERS = [
    ("cp1251", "Какова площадь треугольника? Ответ дайте в метрах"),
    ("koi8-r", "Какова площадь треугольника? Ответ дайте в метрах"),
    ("euc-kr", "삼각형의 넓이를 구하시오. 다음 그림에서 각의 크기는 얼마인가"),
    ("shift_jis", "三角形の面積を求めなさい。次の図で角の大きさはいくらですか"),
    ("euc-jp", "三角形の面積を求めなさい。次の図で角の大きさはいくらですか"),
    ("big5", "如圖所示，已知三角形中，求線段的長度。下列選項正確的是哪一個"),
    ("cp1250", "Ile wynosi pole trójkąta? Podaj długość boku, który był żółty, i mała łąka"),
    ("cp1250", "Hány kék golyó van? Az első ábrán látható gyűjtőkör területe nagyobb, mint a felső sor"),
    ("cp1250", "Dacă triunghiul are laturile egale, află perimetrul. Numără cercurile"),
    ("cp1254", "Üçgenin alanı kaçtır? Şekildeki açı ğ ıslak şişe"),
    ("cp1253", "Ποιο είναι το εμβαδόν του τριγώνου"),
    ("mac_roman", "Wie groß ist die Fläche? Où est l’élève créé"),
    ("cp850", "Wie groß ist die Fläche? 30° où est l'élève"),
]


@pytest.mark.parametrize(("encoding", "text"), OTHERS)
def test_an_encoding_that_is_not_known_is_refused_and_not_guessed(encoding, text, tmp_path):
    rows = [{"problem": text, "answer": str(i)} for i in range(3)]
    (tmp_path / "a.csv").write_bytes(text_of(rows, ",").encode(encoding))
    with pytest.raises(BadRowsError, match="that is no UTF-8; save the file as UTF-8"):
        load_examples(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    "text",
    [
        "As opções são três. Põe a mão na maçã; irmãs, manhãzinha, botões. Não há razão",
        "Milline vastus on õige? Sõna, kõik, põõsas, öö, üks õhtu, äär",
        "L’été dernier, il a dû être sûr. Où est la forêt ? Cœur, août, goût, mûr",
    ],
)
def test_languages_of_western_europe_are_read_with_a_note(text, tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes(text_of([{"problem": text, "answer": "1"}], ",").encode("cp1252"))
    assert [row["problem"] for row in read(tmp_path / "a.csv")] == [text]
    assert (
        "read as Windows-1252 (Latin-1); if letters look wrong, save it as UTF-8" in capsys.readouterr().err
    )


def test_damage_in_an_encoding_is_told_with_its_place(tmp_path):
    whole = json.dumps(LATIN, ensure_ascii=False).encode("utf-16")
    (tmp_path / "a.json").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"UTF-16, and byte {len(whole) - 2:,} is none of it"):
        open_tables(str(tmp_path / "a.json"))
    (tmp_path / "b.json").write_bytes(json.dumps(LATIN, ensure_ascii=False).encode("cp1252")[:-9])
    with pytest.raises(DataError, match="it ends in the middle of one"):
        open_tables(str(tmp_path / "b.json"))


def test_a_file_too_large_to_convert_says_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("gmpo_vl.data.formats.text._LARGEST", 100)
    (tmp_path / "a.csv").write_bytes(text_of(CHINESE, ",").encode("gbk"))
    with pytest.raises(DataError, match=r"iconv -f GB18030 -t UTF-8 '.*a.csv' > '.*a.utf8.csv'"):
        open_tables(str(tmp_path / "a.csv"))


def test_how_files_were_read_is_on_the_card_and_said_once(tmp_path, capsys):
    keyed = {f"q{i}": {"q": f"{row['问题']}", "a": row["答案"]} for i, row in enumerate(CHINESE)}
    (tmp_path / "a.json").write_bytes(json.dumps(keyed, ensure_ascii=False).encode("gbk"))
    (tmp_path / "m.yaml").write_text("source: a.json\nproblem: q\nanswer: a\nid: key\n")
    assert main(["data", "convert", str(tmp_path / "m.yaml"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert said.count("read as GBK") == said.count("their keys are the column 'key'") == 1
    card = json.loads((tmp_path / "out/data_card.json").read_text())
    assert [note.partition(": ")[2].split(";")[0] for note in card["notes"]] == [
        "read as GBK (GB18030)",
        "the rows are the values of one object",
    ]


def test_a_picture_that_is_another_rows_index_is_that_rows_picture(tmp_path):
    """MMBench's tables, as VLMEvalKit reads them: circular questions do not repeat the picture."""
    picture = "iVBORw0KGgo" * 20
    rows = [
        {"index": "7", "question": "a?", "image": picture},
        {"index": "1000007", "question": "b?", "image": "7"},
        {"index": "9", "question": "c?", "image": "8"},
    ]
    (tmp_path / "a.tsv").write_bytes(text_of(rows, "\t").encode())
    assert [row["image"] for row in read(tmp_path / "a.tsv")] == [picture, picture, "8"]


def test_a_text_of_zero_bytes_that_is_not_clearly_utf_16_is_refused_by_its_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes(text_of(LATIN, ",").encode("utf-32-le"))
    with pytest.raises(DataError, match="UTF-16 or UTF-32; save it as UTF-8"):
        open_tables(str(tmp_path / "a.csv"))
