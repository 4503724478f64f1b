"""Whatever a file holds, the model gets what a person would see, or an ImageError says why not."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from gmpo_vl.data.images import ImageError, decode_image, fit_pixels, fit_size, image_size


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def scene(size=(60, 40)) -> Image.Image:
    """A picture whose corners tell which way up it is."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    ImageDraw.Draw(image).rectangle((0, 0, 19, 9), fill=(200, 30, 60))
    return image


def test_bytes_path_and_pil_image_give_the_same_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(scene()))
    for source in (encoded(scene()), str(path), scene()):
        decoded = decode_image(source)
        assert decoded.mode == "RGB"
        assert np.array_equal(pixels(decoded), pixels(scene()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "PA", "RGBA", "YCbCr", "HSV", "I;16", "RGBX"])
def test_every_mode_becomes_rgb(mode):
    source = scene().convert("L").convert(mode) if mode in ("PA", "I;16", "LA") else scene().convert(mode)
    decoded = decode_image(source)
    assert decoded.mode == "RGB"
    assert decoded.size == (60, 40)


def test_files_in_palette_cmyk_and_grey_look_like_their_original():
    for data, tolerance in (
        (encoded(scene().quantize(256)), 40),
        (encoded(scene().convert("CMYK"), "JPEG", quality=95), 60),
        (encoded(scene().convert("CMYK"), "TIFF"), 2),
    ):
        difference = np.abs(pixels(decode_image(data)).astype(int) - pixels(scene()).astype(int))
        assert difference.mean() < 6
        assert np.percentile(difference, 95) <= tolerance


def test_transparent_ground_is_white_and_its_lines_stay_visible():
    drawing = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).line((0, 15, 29, 15), fill=(0, 0, 0, 255))
    decoded = decode_image(encoded(drawing))
    assert decoded.getpixel((3, 3)) == (255, 255, 255)
    assert decoded.getpixel((3, 15)) == (0, 0, 0)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert decode_image(encoded(palette, transparency=0)).getpixel((1, 1)) == (255, 255, 255)


def test_opaque_alpha_changes_no_pixel():
    assert np.array_equal(pixels(decode_image(encoded(scene().convert("RGBA")))), pixels(scene()))


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 4).reshape(4, 64).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        decoded = pixels(decode_image(encoded(Image.fromarray(ramp), kind)))[..., 0]
        assert np.array_equal(decoded, np.round(ramp / 65535 * 255).astype(np.uint8))


def test_floating_point_pixels_are_refused_with_advice():
    with pytest.raises(ImageError, match=r"floating-point.*8 bits"):
        decode_image(encoded(scene().convert("F"), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    """A camera stores the sensor's picture and how it was held; the eight ways come back upright."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene().transpose(turn[orientation]) if orientation in turn else scene()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, exif=exif)
    assert np.array_equal(pixels(decode_image(data)), pixels(scene()))
    assert image_size(data) == (60, 40)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(kind):
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert decode_image(data).getpixel((5, 5)) == (255, 0, 0)


def test_what_cannot_be_decoded_says_why(tmp_path):
    for data, said in (
        (b"", "not an image format"),
        (b"<html>404</html>", "not an image format"),
        (encoded(scene())[:200], "picture of 200 bytes cannot be decoded"),
        (encoded(scene((400, 300)), "JPEG")[:-2000], "truncated"),
        (str(tmp_path / "nothing.png"), "no such picture file"),
        (str(tmp_path), "cannot be decoded"),
        ("https://example.org/a.png", "URL; download it"),
    ):
        with pytest.raises(ImageError, match=said):
            decode_image(data)


def test_a_long_picture_is_the_model_s_to_refuse():
    wide = encoded(Image.new("RGB", (8000, 20)))
    assert decode_image(wide).size == image_size(wide) == (8000, 20)


def test_nothing_left_of_a_picture_is_refused_by_size_and_by_pixels():
    for shrink in (lambda: fit_size(1, 500, None, 100), lambda: fit_pixels(Image.new("L", (1, 500)), 9, 100)):
        with pytest.raises(ImageError, match="1 x 500 pixels scaled down to max_pixels has no pixels left"):
            shrink()


def test_bombs_are_refused_from_the_header(monkeypatch):
    class Loaded(Exception):
        pass

    def load(self):
        raise Loaded

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match="decompression bomb"):
        decode_image(encoded(Image.new("RGB", (40, 40))), 1000)


def test_a_real_bomb_header_is_refused():
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(ImageError):
        decode_image(data)


WARNS = """
import io, sys
from concurrent.futures import ThreadPoolExecutor
from gmpo_vl.data.images import ImageError, decode_image, picture_facts
from PIL import Image
buffer = io.BytesIO()
Image.new("1", (12000, 8000)).save(buffer, "PNG")
def said(look):
    try:
        return str(look(buffer.getvalue()))
    except ImageError as error:
        return str(error)
with ThreadPoolExecutor(4) as threads:
    print("\\n".join(threads.map(said, [picture_facts, decode_image] * 4)))
"""


def test_of_a_large_picture_our_error_speaks_alone():
    """In a process of its own: pytest has its own filters."""
    done = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True)
    assert done.stdout.count("12000 x 8000 pixels, more than 89,478,485") == 4
    assert done.returncode == 0
    assert "DecompressionBomb" not in done.stderr


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
@settings(max_examples=150)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    st.integers(0, 3000),
)
def test_damaged_files_end_in_a_picture_or_an_image_error(kind, changes, cut):
    data = bytearray(encoded(scene((20, 15)), kind))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        decoded = decode_image(bytes(data[: len(data) - cut] if cut < len(data) else data))
    except ImageError:
        return
    assert decoded.mode == "RGB"


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 4_200_000), st.integers(1, 4_200_000))
def test_fit_size_keeps_the_limits_and_the_shape(width, height, a, b):
    min_pixels, max_pixels = sorted((a, b))
    try:
        new_width, new_height = fit_size(width, height, min_pixels, max_pixels)
    except ImageError:
        assert min(width, height) * math.sqrt(max_pixels / (width * height)) < 1  # less than a pixel is left
        return
    assert new_width * new_height <= max(max_pixels, 0)
    if min_pixels <= width * height <= max_pixels:
        assert (new_width, new_height) == (width, height)
    if width * height > max_pixels and new_width * new_height >= min_pixels:
        factor = math.sqrt(max_pixels / (width * height))
        assert (new_width, new_height) == (int(width * factor), int(height * factor))
    if width * height < min_pixels:
        assert 0 <= width * math.sqrt(min_pixels / (width * height)) - new_width < 1
    assert fit_size(width, height, None, None) == (width, height)


def test_fit_pixels_is_pillows_bicubic_at_that_size():
    big = scene((300, 200))
    assert np.array_equal(pixels(fit_pixels(big, None, 15_000)), pixels(big.resize((150, 100))))
    assert np.array_equal(pixels(fit_pixels(big, 240_000, None)), pixels(big.resize((600, 400))))
    assert fit_pixels(big, 1, 60_000) is big
    assert fit_pixels(Image.new("RGB", (1, 1)), 262_144, 4_194_304).size == (512, 512)


def test_a_picture_scaled_to_nothing_is_an_image_error():
    with pytest.raises(ImageError, match="no pixels left; raise max_pixels"):
        fit_pixels(Image.new("RGB", (2000, 10)), None, 100)
