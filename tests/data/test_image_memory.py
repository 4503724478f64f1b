"""Large pictures: the same pixels from little memory, and no good picture is called a bad one where memory is
short.
"""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from gmpo_vl.data import images
from gmpo_vl.data.examples import examples_from_rows
from gmpo_vl.data.images import ImageError, decode_image, image_size
from gmpo_vl.data.rows import BadRowsError

_ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def at_once(image: Image.Image) -> Image.Image:
    """The conversion as it is defined: of the whole upright picture."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def noise(mode: str, size=(37, 29)) -> Image.Image:
    """A random picture of a mode; half of its alpha, where it has some, is neither clear nor opaque."""
    random = np.random.default_rng(0)
    width, height = size
    if mode in ("I;16", "I;16B", "I"):
        wide = random.integers(0, 65536, (height, width))
        return Image.fromarray(wide.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]))
    bands = len(Image.new(mode, (1, 1)).getbands())
    if mode in ("1", "P"):
        grey = Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8))
        return grey.convert("1") if mode == "1" else grey.convert("RGB").quantize(64)
    if mode == "PA":
        return noise("LA", size).convert("PA")
    planes = random.integers(0, 256, (bands, height, width), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(plane) for plane in planes])


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 7])
def test_strips_change_no_pixel(mode, orientation, monkeypatch):
    monkeypatch.setattr(images, "_STRIP_PIXELS", 100)  # strips of two rows
    image = noise(mode)
    assert image.mode == mode
    image.getexif()[_ORIENTATION] = orientation
    decoded = decode_image(image)
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(at_once(image)))
    assert image.size == (37, 29)  # the caller's picture stays as it was


def _files() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    palette = noise("P")
    return {
        "png 16 bit": encoded(noise("I;16"), exif=exif),
        "tiff 16 bit": encoded(noise("I;16"), "TIFF", exif=exif),
        "tiff 16 bit, big-endian": encoded(noise("I;16B"), "TIFF"),
        "tiff 32 bit": encoded(noise("I"), "TIFF", exif=exif),
        "png alpha": encoded(noise("RGBA"), exif=exif),
        "png grey alpha": encoded(noise("LA")),
        "png one clear colour": encoded(noise("RGB"), transparency=tuple(noise("RGB").getpixel((3, 3)))),
        "png one clear grey": encoded(noise("L"), transparency=noise("L").getpixel((3, 3))),
        "png palette": encoded(palette, exif=exif),
        "png clear palette": encoded(palette, transparency=palette.getpixel((3, 3))),
        "png half-clear palette": encoded(palette, transparency=bytes(range(0, 256, 4))),
        "gif clear palette": encoded(palette, "GIF", transparency=palette.getpixel((3, 3))),
        "jpeg": encoded(noise("RGB"), "JPEG", exif=exif),
        "jpeg cmyk": encoded(noise("CMYK"), "JPEG", exif=exif),
        "webp alpha": encoded(noise("RGBA"), "WEBP", lossless=True, exif=exif),
    }


@pytest.mark.parametrize("name", _files())
def test_files_in_strips_change_no_pixel(name, monkeypatch):
    monkeypatch.setattr(images, "_STRIP_PIXELS", 100)
    data = _files()[name]
    decoded = decode_image(data)
    assert np.array_equal(np.asarray(decoded), np.asarray(at_once(Image.open(io.BytesIO(data)))))
    assert decoded.size == image_size(data)


def test_floating_point_and_numbers_beyond_16_bits_are_refused_in_strips_too(monkeypatch):
    monkeypatch.setattr(images, "_STRIP_PIXELS", 100)
    with pytest.raises(ImageError, match="floating-point"):
        decode_image(noise("L").convert("F"))
    wide = noise("I")
    wide.putpixel((30, 28), 70_000)
    with pytest.raises(ImageError, match=r"outside 0\.\.65535"):
        decode_image(wide)


PEAK = """
import io, re
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from PIL import Image
from gmpo_vl.data.images import decode_image
buffer = io.BytesIO()
Image.fromarray(np.zeros((4200, 4200), np.uint16)).save(buffer, "PNG", compress_level=1)
def peak():  # getrusage would count the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
decode_image(Image.new("I;16", (9, 9)))
before = peak()
with ThreadPoolExecutor(3) as threads:
    for future in [threads.submit(lambda: decode_image(buffer.getvalue()).size) for _ in range(3)]:
        assert future.result() == (4200, 4200)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_large_16_bit_pictures_take_memory_in_proportion_to_the_pixels_of_one():
    """Three of 17 million pixels in three threads. In MiB: 34 as decoded and 67 as RGB; 252 in all, 375 with
    all three at once, 606 with wide copies.
    """
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 320


SHORT = """
import io, resource, sys
from PIL import Image
from gmpo_vl.data.examples import examples_from_rows
from gmpo_vl.data.images import decode_image
kind = sys.argv[1]
buffer, small = io.BytesIO(), io.BytesIO()
Image.new("RGB", (4000, 4000)).save(buffer, kind)
Image.new("RGB", (40, 40)).save(small, kind)
decode_image(small.getvalue())
row = {"problem": "<image>How large?", "answer": "1", "images": [buffer.getvalue()]}
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 24 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    rows = [row, {**row, "images": [small.getvalue()]}]
    examples_from_rows(rows, "rows", on_bad_row="skip", check_images=True)
    print("read")
except MemoryError as error:
    print("memory:", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize(
    "kind", ["PNG", "WEBP"]
)  # Pillow says MemoryError for the one, OSError for the other
def test_too_little_memory_stops_and_makes_no_bad_row(kind):
    done = subprocess.run([sys.executable, "-c", SHORT, kind], capture_output=True, text=True)
    assert done.stdout.startswith("memory: picture of"), done.stdout + done.stderr
    assert "lower data.max_image_pixels" in done.stdout


def test_whether_memory_is_short_is_asked_without_taking_any():
    """For every damaged picture: 256 MiB where its header cannot be read."""
    tracemalloc.start()
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_image(b"no picture")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_size_is_read_without_the_pixels():
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    for kind, options in (("PNG", {}), ("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("WEBP", {})):
        data = encoded(noise("RGB", (200, 300)), kind, **options)
        head = data[: len(data) // 4] if kind != "WEBP" else data
        assert image_size(head) == ((300, 200) if options else (200, 300))
        if kind != "WEBP":  # whose header says the file's length
            with pytest.raises(ImageError):
                decode_image(head)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_what_turns_a_png_behind_its_pixels_counts():
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    xmp = b'<x tiff:Orientation="6"/>'
    plain = encoded(noise("RGB"))
    end = plain.index(b"IEND") - 4
    for chunk in (
        _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        _chunk(b"tEXt", b"Comment\0nothing"),
    ):
        data = plain[:end] + chunk + plain[end:]
        turned = b"Comment" not in chunk
        assert decode_image(data).size == image_size(data) == ((29, 37) if turned else (37, 29))


def test_the_limit_of_pixels_can_be_set():
    picture = encoded(noise("RGB", (60, 40)))
    assert decode_image(picture, 2400).size == image_size(picture, 2400) == (60, 40)
    for look in (decode_image, image_size):
        with pytest.raises(ImageError, match=r"more than 2,399.*raise data\.max_image_pixels"):
            look(picture, 2399)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest has its own filters
def test_a_picture_above_the_limit_is_a_bad_row():
    row = {"problem": "<image>How large?", "answer": "1", "images": [encoded(noise("RGB"))]}
    assert len(examples_from_rows([row], "rows", check_images=True)) == 1
    huge = encoded(Image.new("1", (12_000, 8_000)))
    with pytest.raises(BadRowsError, match="89,478,485"):
        examples_from_rows([{**row, "images": [huge]}], "rows", check_images=True)
