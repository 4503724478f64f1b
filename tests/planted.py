"""A data set with every fault we know of. Imported by the tests of the rooms that must survive it."""

import io
import json
import math
from pathlib import Path

from PIL import Image

from gmpo_vl.data.writing import write_parquet


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(number: int) -> Image.Image:
    """A picture of its own for every number."""
    image = Image.linear_gradient("L").resize((80, 60)).convert("RGB")
    image.putpixel((number % 80, number // 80), (255, 0, 0))
    return image


def planted(for_qwen: bool = False) -> dict[str, tuple[dict, str | None, set[str]]]:
    """name -> (row, reason a run must refuse it for or None, what else `data check` must say of it)."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    rows: dict[str, tuple[dict, str | None, set[str]]] = {}

    def add(name, images=None, reason=None, problem=None, answer: object = "3", also=()):
        images = [encoded(picture(len(rows)))] if images is None else images
        problem = "<image>" * len(images) + f"Find x in {name}." if problem is None else problem
        rows[name] = ({"images": images, "problem": problem, "answer": answer}, reason, set(also))

    def drawn() -> Image.Image:
        return picture(len(rows))

    add("good")
    add("text only", [])
    add("two images", [encoded(drawn()), encoded(picture(500))])
    add("cmyk", [encoded(drawn().convert("CMYK"), "JPEG")], also=["picture_cmyk"])
    add("palette", [encoded(drawn().quantize(8))], also=["picture_palette"])
    add("16 bit", [encoded(drawn().convert("L").convert("I;16"))], also=["picture_16_bit"])
    add("1x1", [encoded(drawn().resize((1, 1)))], also=["picture_small"])
    see_through = drawn().convert("RGBA")
    see_through.putalpha(100)
    add("alpha", [encoded(see_through)], also=["picture_alpha"])
    add("exif", [encoded(drawn(), "JPEG", exif=rotated)], also=["picture_rotated"])
    frames = [drawn().quantize(16), drawn().rotate(180).quantize(16)]
    add(
        "animated",
        [encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])],
        also=["picture_animated", "picture_palette"],
    )
    add(
        "8000x20",
        [encoded(Image.new("RGB", (8000, 20)))],
        "prompt_unusable" if for_qwen else None,
        also=["picture_extreme_aspect", "picture_small"],
    )
    add("1600x30", [encoded(Image.new("RGB", (1600, 30)))], also=["picture_extreme_aspect"])
    good = encoded(drawn())
    add("corrupt", [good[:20] + b"garbage" + good[30:]], "image_unreadable")
    add("truncated", [good[: len(good) // 2]], "image_unreadable")
    add("not an image", [b"<html>403 Forbidden</html>"], "image_unreadable")
    add("empty image", [b""], "image_missing")
    add("missing tag", None, "image_tags", "Find x.")
    add("extra tag", None, "image_tags", "<image><image>Find x.")
    add("empty answer", None, "empty_answer", answer="")
    add("no answer", None, "empty_answer", answer=None)
    add("nan answer", None, "empty_answer", answer=math.nan)
    add("empty problem", None, "empty_problem", "<image>")
    add("10 MB problem", None, "problem_length", "<image>" + "x" * 10_000_000)
    add("10 MB answer", None, "answer_length", answer="9" * 10_000_000)
    add("refused gold", None, "answer_form", answer='{"gold": "3", "typ": "math"}')
    add("gold in no box", answer="} 3 {", also=["gold_not_verified"])
    return rows


def write_planted(rows: dict[str, tuple[dict, str | None, set[str]]], kind: str, folder: Path) -> str:
    """The rows as a parquet or jsonl file, ids their names; returns its path."""
    path = folder / f"a.{kind}"
    contents = [{**row, "id": name} for name, (row, *_) in rows.items()]
    if kind == "parquet":
        # Parquet has one type a column: NaN cannot stand among texts there.
        contents = [{**r, "answer": None if r["id"] == "nan answer" else r["answer"]} for r in contents]
        write_parquet(path, contents, {"id": "string"})
        return str(path)
    for row in contents:
        images, row["images"] = row["images"], []
        for i, data in enumerate(images):
            file = folder / f"{row['id']} {i}"
            file.write_bytes(data)
            row["images"].append(str(file))
    path.write_text("\n".join(json.dumps(row) for row in contents))
    return str(path)
