"""Small copies of public data sets: the columns, nesting, file formats and spellings of each, drawn pictures.

Real layouts: MathLLMs/MathVision, We-Math/We-Math (testmini.json), AI4Math/MathVerse (testmini.json),
declare-lab/puzzlevqa (data/*.json), LLaVA's chat files, derek-thomas/ScienceQA, vis-nlp/ChartQA, MMMU/MMMU,
MMBench's TSV, and GeoQA as keyed JSON in a Chinese encoding.
"""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import pyarrow as pa
from making import Layout, Row, choice, drawn, lines, parquet, png, saved, write_json


# --- MathVision: parquet; options are none, texts, or letters that stand in the picture; <image1> marks ---
def mathvision(folder: Path) -> tuple[Path, list[Row]]:
    texts = ["$\\frac{1}{2}$", "$\\frac{1}{3}$", "$\\frac{3}{4}$", "$1$", "$2$"]
    asked = [
        ("1", "How many squares are there?\n<image1>", [], "12"),
        ("2", "<image1>\nWhich part of the square is grey?", texts, "B"),
        ("3", "Which kite has the longest string?\n<image1>", list("ABCDE"), "C"),
        ("4", "How many litres does the tank <image1> hold?", [], "4.5"),
    ]
    pictures = [drawn(f"vision {number}") for number, *_ in asked]
    rows = [
        {"id": number, "question": question, "options": options, "image": f"images/{number}.jpg",
         "decoded_image": picture, "answer": answer, "solution": None, "level": 2, "subject": "counting"}
        for (number, question, options, answer), picture in zip(asked, pictures)
    ]  # fmt: skip
    types = {name: pa.string() for name in ("id", "question", "image", "answer", "solution", "subject")}
    types |= {"options": pa.list_(pa.string()), "level": pa.int64()}
    source = parquet(folder / "testmini-00000-of-00001.parquet", rows, ["decoded_image"], types)
    half = choice(lines("<image>\nWhich part of the square is grey?", texts), texts, "B", pictures[1:2])
    kite = "Which kite has the longest string?\n<image>\nA\nB\nC\nD\nE"
    return source, [
        Row("How many squares are there?\n<image>", ("12", "12.0", "= 12"), ("21", "1"), (pictures[0],)),
        half,
        choice(kite, list("ABCDE"), "C", pictures[2:3], texts=False),
        Row(
            "How many litres does the tank <image> hold?",
            ("4.5", "\\frac{9}{2}", "4.5 litres", "4.5 L"),
            ("45", "4"),
            (pictures[3],),
        ),
    ]


MATHVISION = """\
source: {source}
images: decoded_image
image_marks: <image{{n}}>
problem: question
choices: options
answer: answer
id: id
carry: [level, subject]
"""


# --- We-Math: a JSON list; the options are one text; pictures of the same name lie in several folders ---
def wemath(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("3steps_165", "What is the area of the flower bed (  ) m²? (π = 3.14)",
         "A. 200.96;B. 3215.36;C. 6280;D. 32; E. No correct answer",
         ["200.96", "3215.36", "6280", "32", "No correct answer"], "B", "3steps/image/165-3.png"),
        ("2steps_165", "Which is the pair of sides of the rectangle?",
         "A. 4000, 3000; B. 3000, 4000; C. 300, 400; D. 3, 4; E. No correct answer",
         ["4000, 3000", "3000, 4000", "300, 400", "3, 4", "No correct answer"], "B",
         "2steps/image/165-3.png"),
        ("2steps_7", "How long is the side of the square (  ) cm?",
         "A. 5; B. 50; C. 0.5; D. 25; E. No correct answer", ["5", "50", "0.5", "25", "No correct answer"],
         "E", "2steps/image/7-1.png"),
    ]  # fmt: skip
    rows, made = [], []
    for number, (name, question, option, texts, answer, path) in enumerate(asked, 1):
        picture = saved(folder / path, drawn(f"we {name}"))
        rows.append(
            {"ID": name, "split": "testmini", "knowledge concept": "Area", "question": question,
             "option": option, "answer": answer, "image_path": path, "key": "2steps_1",
             "question number": number, "knowledge concept description": "Area: how much a figure covers."}
        )  # fmt: skip
        made.append(choice(lines(f"<image>{question}", texts), texts, answer, [picture]))
    return write_json(folder / "testmini.json", rows), made


# --- MathVerse: choices in the question's text, nested metadata, versions of a problem with one picture ---
def mathverse(folder: Path) -> tuple[Path, list[Row]]:
    texts = ["40°", "60°", "120°", "140°"]
    shown = "\nChoices:\nA:40°\nB:60°\nC:120°\nD:140°"
    angle = "As shown in the figure, DE is parallel to BC, then the size of angle CED is ()" + shown
    other = "In triangle ABC it is known that angle A = 80.0, angle B = 60.0, find angle CED ()" + shown
    asked = [
        ("1", "1", "Text Dominant", other, "D", "multi-choice", "images_version_1-4/image_1.png"),
        ("2", "1", "Text Lite", angle, "D", "multi-choice", "images_version_1-4/image_1.png"),
        ("3", "2", "Vision Only", "Find x.", "2\\sqrt{3}", "free-form", "images_version_5/image_1.png"),
        ("4", "3", "Text Lite", "Find the length of AC.", "8.5", "free-form", "images_version_6/image_2.png"),
    ]
    rows, pictures = [], []
    for index, problem, version, question, answer, kind, path in asked:
        pictures.append(saved(folder / path, drawn(f"verse {path}")))
        metadata = {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"}
        rows.append(
            {"sample_index": index, "problem_index": problem, "problem_version": version,
             "question": question, "image": path, "answer": answer, "question_type": kind,
             "metadata": metadata, "query_wo": f"Please directly answer.\nQuestion: {question}",
             "query_cot": f"Please first conduct reasoning.\nQuestion: {question}",
             "question_for_eval": question}
        )  # fmt: skip
    return write_json(folder / "testmini.json", rows), [
        choice(f"<image>{other}", texts, "D", pictures[0:1]),
        choice(f"<image>{angle}", texts, "D", pictures[1:2]),
        Row(
            "<image>Find x.",
            ("2\\sqrt{3}", "2√3", "x = 2\\sqrt{3}", "\\sqrt{12}"),
            ("2", "3"),
            (pictures[2],),
        ),
        Row(
            "<image>Find the length of AC.", ("8.5", "AC = 8.5", "\\frac{17}{2}"), ("85", "8"), (pictures[3],)
        ),
    ]


MATHVERSE = """\
source: {source}
images: image
image_folder: {folder}
problem: question
choices: "{{{{ question if question_type == 'multi-choice' }}}}"
answer: answer
id: sample_index
carry: [problem_version, metadata]
"""


# --- PuzzleVQA: JSON lines; the answer is an option's text; pictures of the same name in every folder ---
def puzzlevqa(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("circle_size_number", "What is the missing number of the circle?", ["7", "9", "3"], "9"),
        ("grid_number_color", "What is the missing color of the part denoted with a question mark?",
         ["light blue", "blue", "dark blue"], "blue"),
        ("size_cycle", "What is the size of the missing part?", ["large", "medium", "small"], "medium"),
    ]  # fmt: skip
    rows, made = [], []
    for kind, question, options, answer in asked:
        path = f"images/{kind}/0000.png"
        picture = saved(folder / path, drawn(f"puzzle {kind}"))
        rows.append(
            {"question": question, "answer": answer, "options": options, "caption": "There are circles.",
             "explanation": "The numbers grow.", "deduction": f"Hence it should be {answer}.", "image": path}
        )  # fmt: skip
        letter = "ABC"[options.index(answer)]
        made.append(choice(lines(f"<image>{question}", options), options, letter, [picture]))
    path = folder / "puzzles.json"  # in lines, whatever its name says
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, made


# --- LLaVA's chat: a JSON list of conversations; the first picture's mark stands in the human's turn ---
def llava_chat(folder: Path) -> tuple[Path, list[Row]]:
    direct = "\nAnswer the question using a single word or phrase."
    asked = [
        ("000000033471", "<image>\nWhich number is on the bus?" + direct, "42",
         "coco/train2017/000000033471.jpg"),
        ("000000052846", "<image>\nIs there a cat in the picture?" + direct, "Yes", "gqa/images/52846.jpg"),
        ("0ab3e2", "What colour is the bicycle?\n<image>" + direct, "dark red", "vg/VG_100K/2331.jpg"),
    ]  # fmt: skip
    rows, pictures = [], []
    for name, question, answer, path in asked:
        pictures.append(saved(folder / path, drawn(f"chat {name}")))
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        rows.append({"id": name, "image": path, "conversations": turns})
    return write_json(folder / "llava_instruct.json", rows), [
        Row(asked[0][1], ("42", "42.", "**42**"), ("24", "4"), (pictures[0],)),
        Row(asked[1][1], ("Yes", "yes", "Yes."), ("No", "no"), (pictures[1],)),
        Row(asked[2][1], ("dark red", "Dark red.", "dark red "), ("red", "blue"), (pictures[2],)),
    ]


# --- ScienceQA: parquet; the answer counts from 0; a picture or none; a hint and a lecture ---
def scienceqa(folder: Path) -> tuple[Path, list[Row]]:
    picture, other = drawn("science map"), drawn("science magnets")
    asked = [
        (picture, "Which of these states is farthest north?", ["West Virginia", "Louisiana", "Arizona"], 0,
         ""),
        (None, "Which word would you find on a page with the guide words ever and eye?", ["eagle", "exam"], 1,
         "Guide words are the first and the last word of a page."),
        (other, "Will these magnets attract or repel each other?", ["repel", "attract"], 1,
         "Two magnets are placed as shown."),
    ]  # fmt: skip
    rows, made = [], []
    for found, question, choices, answer, hint in asked:
        rows.append(
            {"image": found, "question": question, "choices": choices, "answer": answer, "hint": hint,
             "task": "closed choice", "grade": "grade2", "subject": "natural science", "topic": "geography",
             "category": "Geography", "skill": "Read a map", "lecture": "Maps have four directions.",
             "solution": "Look at the map."}
        )  # fmt: skip
        shown = f"{hint}\n{question}" if hint else question
        shown = f"<image>{shown}" if found is not None else shown
        pictures = [found] if found is not None else []
        made.append(choice(lines(shown, choices), choices, "ABC"[answer], pictures))
    types = {"question": pa.string(), "choices": pa.list_(pa.string()), "answer": pa.int8()}
    texts = ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
    types |= dict.fromkeys(texts, pa.string())
    return parquet(folder / "train-00000-of-00001.parquet", rows, ["image"], types), made


SCIENCEQA = """\
source: {source}
images: image
problem: "{{% if hint %}}{{{{ hint }}}}\\n{{% endif %}}{{{{ question }}}}"
choices: choices
answer: answer
answer_is: index
"""


# --- ChartQA: a JSON list with the pictures' bare names, in png/; labels are lists; 5% are allowed ---
def chartqa(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        ("41699051005347.png", "How many food items are shown in the bar graph?", ["14"]),
        ("two_col_1.png", "What is the value of the largest bar?", ["62.5"]),
        ("166.png", "Is the average of all bars above 20?", ["Yes"]),
        ("77.png", "Which country has the longest bar?", ["United States"]),
    ]
    rows = [{"imgname": name, "query": query, "label": label} for name, query, label in asked]
    pictures = [saved(folder / "png" / name, drawn(f"chart {name}")) for name, *_ in asked]
    return write_json(folder / "train_human.json", rows), [
        Row(
            f"<image>{asked[0][1]}",
            ("14", "14.0", "14.5", "14.5 items"),
            ("15", "4"),
            (pictures[0],),
        ),
        Row(f"<image>{asked[1][1]}", ("62.5", "60", "65"), ("55", "70"), (pictures[1],)),
        Row(f"<image>{asked[2][1]}", ("Yes", "yes", "Yes."), ("No",), (pictures[2],)),
        Row(
            f"<image>{asked[3][1]}",
            ("United States", "united states", "the United States"),
            ("United Kingdom", "Canada"),
            (pictures[3],),
        ),
    ]


# --- MMMU: up to seven picture columns, <image 1> marks in questions and options; options as Python text ---
def mmmu(folder: Path) -> tuple[Path, list[Row]]:
    a, b, c, d = (drawn(f"mmmu {number}") for number in range(4))
    prices = ["$6", "$7", "$8", "$9"]
    asked = [
        ("validation_Accounting_1", "<image 1> Baxter sells at the price in <image 2>. What does it earn?",
         str(prices), "B", "multiple-choice", [a, b]),
        ("validation_Art_2", "Which of the following follows <image 1>?",
         "['<image 2>', '<image 3>']", "A", "multiple-choice", [b, c, d]),
        ("validation_Math_3", "What is the area of the triangle in <image 1>?", "[]", "0.5", "open", [d]),
    ]  # fmt: skip
    rows = []
    for name, question, options, answer, kind, pictures in asked:
        columns = {f"image_{k + 1}": pictures[k] if k < len(pictures) else None for k in range(7)}
        rows.append(
            {"id": name, "question": question, "options": options, "explanation": "?", **columns,
             "img_type": "['Tables']", "answer": answer, "topic_difficulty": "Medium", "question_type": kind,
             "subfield": "Financial Accounting"}
        )  # fmt: skip
    texts = ("id", "question", "options", "explanation", "img_type", "answer", "topic_difficulty")
    types = dict.fromkeys((*texts, "question_type", "subfield"), pa.string())
    columns = [f"image_{k}" for k in range(1, 8)]
    source = parquet(folder / "validation-00000-of-00001.parquet", rows, columns, types)
    sold = "<image> Baxter sells at the price in <image>. What does it earn?"
    follows = "Which of the following follows <image>?\nA. <image>\nB. <image>"
    return source, [
        choice(lines(sold, prices), prices, "B", [a, b]),
        choice(follows, ["", ""], "A", [b, c, d], texts=False),
        Row(
            "What is the area of the triangle in <image>?",
            ("0.5", "\\frac{1}{2}", "1/2", ".5"),
            ("5", "2"),
            (d,),
        ),
    ]


MMMU = """\
source: {source}
images: [image_1, image_2, image_3, image_4, image_5, image_6, image_7]
image_marks: <image {{n}}>
problem: question
choices: options
answer: answer
id: id
"""


# --- MMBench: tab-separated, the picture in base64, options in columns of which the last may be empty ---
def mmbench(folder: Path) -> tuple[Path, list[Row]]:
    asked = [
        (
            "241",
            "Which is right?",
            "The picture shows a bridge.",
            ["a bridge", "a tower", "a ship", "a train"],
            "A",
        ),
        ("252", "Are the two objects alike?", "", ["Yes", "No"], "B"),
        ("263", 'What does the sign "STOP" mean?', "", ["go on", "halt", "turn"], "B"),
    ]
    names = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source"]
    names += ["l2-category", "comment", "split"]
    path, made = folder / "MMBench_DEV_EN.tsv", []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names], delimiter="\t", restval="")
        writer.writeheader()
        for index, question, hint, options, answer in asked:
            picture = drawn(f"bench {index}")
            columns = dict(zip("ABCD", options))
            writer.writerow(
                {"index": index, "question": question, "hint": hint, **columns, "answer": answer,
                 "category": "object_localization", "image": base64.b64encode(png(picture)).decode(),
                 "source": "reasonseg", "l2-category": "perception", "split": "dev"}
            )  # fmt: skip
            shown = f"<image>{hint}\n{question}" if hint else f"<image>{question}"
            made.append(choice(lines(shown, options), options, answer, [picture]))
    return path, made


# --- GeoQA: a JSON object by problem, Chinese text in GBK, the right choice counted from 0 ---
def geoqa(folder: Path) -> tuple[Path, list[Row]]:
    asked = {
        "0": ("如图，在△ABC中，∠A＝60°，则∠B的度数为（）", ["30°", "60°", "90°", "120°"], 1),
        "1": ("如图，圆的半径为5，弦AB的长为8，则圆心到AB的距离为（）", ["2", "3", "4", "5"], 1),
        "2": ("如图，小明从A走到B，一共走了（）", ["3米", "4米", "5米", "7米"], 2),
    }
    rows, made = {}, []
    for key, (subject, choices, label) in asked.items():
        picture = saved(folder / "image" / f"{key}.png", drawn(f"geo {key}"))
        rows[key] = {"subject": subject, "choices": choices, "label": label, "image": f"{key}.png",
                     "formal_point": ["A"], "answer": f"故选{'ABCD'[label]}"}  # fmt: skip
        made.append(choice(lines(f"<image>{subject}", choices), choices, "ABCD"[label], [picture]))
    return write_json(folder / "train.json", rows, "gbk"), made


GEOQA = """\
source: {source}
images: image
image_folder: {folder}/image
problem: subject
choices: choices
answer: label
answer_is: index
"""


LAYOUTS = {
    "mathvision": Layout(mathvision, MATHVISION),
    "wemath": Layout(wemath),
    "mathverse": Layout(mathverse, MATHVERSE),
    "puzzlevqa": Layout(puzzlevqa),
    "llava_chat": Layout(llava_chat),
    "scienceqa": Layout(scienceqa, SCIENCEQA),
    "chartqa": Layout(chartqa),
    "mmmu": Layout(mmmu, MMMU),
    "mmbench": Layout(mmbench),
    "geoqa": Layout(geoqa, GEOQA),
}
