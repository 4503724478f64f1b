"""More layouts that people bring: chats with several pictures, a zip of pictures, other encodings."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pyarrow as pa
from making import Layout, Row, choice, drawn, lines, parquet, png, saved, write_json


# --- messages with roles, the pictures of a row in a list of their own ---
def messages(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("<image>How many cats are there?", "3", ("3", "three")),
        (
            "<image><image>Which picture shows a dog, the first or the second?",
            "second",
            ("second", "Second."),
        ),
        ("<image>What does the sign say?", "Main Street", ("Main Street", "main street")),
    ]
    rows, made = [], []
    for number, (question, answer, right) in enumerate(asked):
        paths = [f"pictures/{number}/{k}.png" for k in range(question.count("<image>"))]
        pictures = [saved(folder / path, drawn(f"messages {path}")) for path in paths]
        turns = [("system", "You are helpful."), ("user", question), ("assistant", answer)]
        rows.append({"messages": [{"role": r, "content": c} for r, c in turns], "images": paths})
        made.append(Row(question, right, ("none", "4"), tuple(pictures)))
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, made


# --- a table of a Windows program, its pictures of one name in a zip ---
def zipped(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("How many €?", "3"),
        ("Which colour has the café?", "red"),
        ("Which word is on the door?", "exit"),
    ]
    made = []
    with (
        zipfile.ZipFile(folder / "images.zip", "w") as archive,
        (folder / "questions.csv").open("w", newline="", encoding="cp1252") as file,
    ):
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "question", "answer", "image"])
        for number, (question, answer) in enumerate(asked):
            picture, path = drawn(f"zip {number}"), f"images/set{number}/0.png"
            archive.writestr(path, png(picture))
            writer.writerow([number, question, answer, path])
            made.append(Row(f"<image>{question}", (answer, f"{answer}."), ("none", "4"), (picture,)))
    return folder / "questions.csv", made


# --- {"data": [...]} with choices as {label, text} and a key of the right one, as ARC has ---
def labelled(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("Which animal is it?", ["a cat", "a dog", "a cow"], "B"),
        ("How many are there?", ["300", "3000", "30"], "C"),
    ]
    rows, made = [], []
    for number, (question, options, letter) in enumerate(asked):
        picture = saved(folder / f"img/{number}.png", drawn(f"labelled {number}"))
        choices = [{"label": "ABC"[k], "text": text} for k, text in enumerate(options)]
        rows.append(
            {"question": question, "choices": choices, "answerKey": letter, "picture": f"img/{number}.png"}
        )
        made.append(choice(lines(f"<image>{question}", options), options, letter, [picture]))
    return write_json(folder / "set.json", {"version": 1, "data": rows}), made


# --- tab-separated text in UTF-16, a column an option, the right one counted from 1 ---
def numbered(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("Wie viele Kühe?", ["zwei", "drei", "vier"], 2),
        ("Wo ist die Tür?", ["hier", "dort", "überall"], 3),
        ("Welche Farbe?", ["rot", "grün", "blau"], 1),
    ]
    path, made = folder / "fragen.tsv", []
    with path.open("w", newline="", encoding="utf-16") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["ID", "Question", "Option1", "Option2", "Option3", "CorrectOption", "ImageFile"])
        for number, (question, options, right) in enumerate(asked):
            picture = saved(folder / f"bilder/{number}.png", drawn(f"numbered {number}"))
            writer.writerow([number, question, *options, right, f"{number}.png"])
            made.append(choice(lines(f"<image>{question}", options), options, "ABC"[right - 1], [picture]))
    return path, made


# --- R1-V's GeoQA: the answer in its tag, with a degree or a unit; choices in the problem's text ---
def answer_tags(folder: Path) -> tuple[Path, list[Row]]:
    parallel = "As shown in the figure, AB is parallel to CD, angle 1 = 50.0, then angle 2 = (  )"
    asked = [
        (parallel, "130°", ("130°", "130", "130^\\circ"), ("50°", "13")),
        ("As shown, how long is AC?", "4.5m", ("4.5m", "4.5", "4.5 m", "AC = 4.5 m"), ("45", "4")),
    ]
    rows, made = [], []
    for number, (problem, answer, right, wrong) in enumerate(asked):
        picture = drawn(f"tags {number}")
        rows.append({"image": picture, "problem": problem, "solution": f"<answer> {answer} </answer>"})
        made.append(Row(f"<image>{problem}", right, wrong, (picture,)))
    types = {"problem": pa.string(), "solution": pa.string()}
    return parquet(folder / "train-00000-of-00001.parquet", rows, ["image"], types), made


MORE = {
    "messages": Layout(messages),
    "zipped": Layout(zipped),
    "labelled": Layout(labelled),
    "numbered": Layout(numbered),
    "answer_tags": Layout(answer_tags),
}
