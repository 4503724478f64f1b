"""An image as stored in a row becomes an RGB picture, scaled by area as EasyR1 scales it.

The model gets what a person sees, whatever the file's mode:
    EXIF      the orientation is applied, as `datasets` and transformers do when they decode. (EasyR1 applies
              it only to pictures that `datasets` decoded for it.)
    alpha     laid on white: black lines on a transparent ground stay visible. Opaque alpha is dropped.
    16 bit    scaled to 8 bit, not clipped.
    animated  the first frame.
    others    palette, CMYK, grey, ...: converted to RGB before any scaling. (EasyR1 scales a palette picture
              first, with nearest neighbours.)
RGB, grey and opaque RGBA pictures are pixel-equal to EasyR1's.

Decoding takes at most about 12 bytes a pixel, and large pictures are decoded one at a time. Too little memory
does not make a picture a bad one: it raises MemoryError.
"""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image, ImageOps

from gmpo_vl.types import ImageSource

# Pillow's own threshold for "possible decompression bomb": 256 MiB of RGB. LIMIT_KEY sets another.
MAX_IMAGE_PIXELS = 89_478_485
LIMIT_KEY = "data.max_image_pixels"
PILLOW_MAX_PIXELS = 2 * MAX_IMAGE_PIXELS  # Pillow opens nothing larger
# Pillow warns on the terminal above MAX_IMAGE_PIXELS; `_check_size` says it in the row's own error. The
# filter is set once, because warnings.catch_warnings changes the whole process and pictures are opened in
# threads. Pillow's error at twice the size, and for the pictures inside a file, stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Grey values 0..65535; Pillow opens some 16-bit files (PGM, TIFF) with 32 bits, mode "I".
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_EXIF_ORIENTATION = 0x0112
_PNG_TEXTS_THAT_TURN = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")

_STRIP_PIXELS = 2**20  # converted at once where a conversion needs wide copies
_LARGE_PIXELS = 2**24  # 64 MiB of Pillow's RGB: from here on one picture at a time
_one_large_picture = threading.Lock()


class ImageError(ValueError):
    """A picture cannot be used; the message says why."""


def decode_image(
    source: ImageSource, limit: int = MAX_IMAGE_PIXELS, limit_key: str | None = LIMIT_KEY
) -> Image.Image:
    """RGB picture of encoded bytes, a path or a PIL image.

    limit: pixels above which a picture is refused before it is decoded. limit_key: what the user raises it
    by. Raises ImageError for whatever cannot be decoded, MemoryError where there is too little memory for it.
    """
    with _opened(source, limit_key) as image:
        _check_size(image.width, image.height, limit, limit_key)
        with _one_at_a_time(image):
            image.load()
            if isinstance(source, Image.Image):
                image = ImageOps.exif_transpose(image)
            else:  # no second copy of what nobody else sees
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)


def image_size(source: ImageSource, limit: int = MAX_IMAGE_PIXELS) -> tuple[int, int]:
    """(width, height) that `decode_image` would give, by its header. A truncated body goes unnoticed."""
    with _opened(source) as image:
        width, height = image.size
        _check_size(width, height, limit)
        if _orientation(image) in (5, 6, 7, 8):  # turned by a quarter
            if image.format == "TIFF":  # some versions of Pillow give the upright size before decoding
                width, height = image.tag_v2[256], image.tag_v2[257]  # type: ignore[attr-defined]
            width, height = height, width
        return width, height


@dataclass(frozen=True)
class PictureFacts:
    """What a picture's file says before it is decoded: size in pixels as stored, Pillow's mode and format."""

    width: int
    height: int
    mode: str
    format: str
    frames: int
    rotated: bool
    transparent: bool

    @property
    def aspect(self) -> float:
        """Longer side over shorter side."""
        return max(self.width, self.height) / max(1, min(self.width, self.height))

    @property
    def wide(self) -> bool:
        """More than 8 bits a channel."""
        return self.mode in _SIXTEEN_BIT_MODES


def picture_facts(source: ImageSource) -> PictureFacts:
    """Read a picture's header. Raises ImageError where even that cannot be done."""
    with _opened(source) as image:
        return PictureFacts(
            width=image.width,
            height=image.height,
            mode=image.mode,
            format=image.format or "",
            frames=getattr(image, "n_frames", 1),
            rotated=_orientation(image) != 1,
            transparent=image.has_transparency_data,
        )


def fit_size(width: int, height: int, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """Scale both sides by one factor: down to at most `max_pixels`, then up to about `min_pixels`, as EasyR1
    does.

    Sides are cut to whole pixels, so the area after scaling up may lie just below `min_pixels`. Raises
    ImageError where nothing would be left of the picture.
    """
    stored = f"{width} x {height}"
    if max_pixels is not None and width * height > max_pixels:
        factor = math.sqrt(max_pixels / (width * height))
        width, height = int(width * factor), int(height * factor)
    if 0 in (width, height):
        raise ImageError(
            f"a picture of {stored} pixels scaled down to max_pixels has no pixels left; raise max_pixels"
        )
    if min_pixels is not None and width * height < min_pixels:
        factor = math.sqrt(min_pixels / (width * height))
        width, height = int(width * factor), int(height * factor)
    return width, height


def fit_pixels(image: Image.Image, min_pixels: int | None, max_pixels: int | None) -> Image.Image:
    """The picture scaled (bicubic) to `fit_size`. Raises ImageError where nothing of it would be left."""
    if max_pixels is not None:
        image = _resize(image, fit_size(image.width, image.height, None, max_pixels))
    if min_pixels is not None:
        image = _resize(image, fit_size(image.width, image.height, min_pixels, None))
    return image


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if size == image.size:
        return image
    _check_size(*size, PILLOW_MAX_PIXELS)
    return image.resize(size, Image.Resampling.BICUBIC)


@contextmanager
def _opened(source: ImageSource, limit_key: str | None = LIMIT_KEY) -> Iterator[Image.Image]:
    """The source as a PIL image whose file is closed afterwards; every failure inside becomes an ImageError.

    The except is broad because Pillow's decoders raise all kinds of errors for a damaged file (OSError,
    SyntaxError, struct.error, zlib.error, ...). Some raise the same where memory ran out.
    """
    pixels = None
    try:
        if isinstance(source, Image.Image):
            yield source
            return
        if isinstance(source, str) and source.startswith(("http://", "https://")):
            raise ImageError("the picture is a URL; download it and give its path")
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            pixels = image.width * image.height
            yield image
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"no such picture file: {source}") from error
    except Exception as error:
        if isinstance(error, MemoryError) or _memory_is_short(pixels):
            lower = (
                "" if limit_key is None else f", or lower {limit_key}: larger pictures then count as bad rows"
            )
            raise MemoryError(
                f"{_describe(source)}: there is too little memory to decode it. "
                f"Free some, give the process more{lower}"
            ) from error
        raise ImageError(f"{_describe(source)} cannot be decoded: {_reason(error)}") from error


def _describe(source: ImageSource) -> str:
    if isinstance(source, str):
        return f"picture file {source}"
    if isinstance(source, bytes):
        return f"picture of {len(source):,} bytes"
    return f"picture ({type(source).__name__})"


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":  # its own message is the address of a buffer
        return "not an image format that Pillow knows, or its header is damaged"
    return " ".join(str(error).split()) or type(error).__name__


def _one_at_a_time(image: Image.Image) -> AbstractContextManager[Any]:
    """What threads that decode large pictures wait for."""
    return _one_large_picture if image.width * image.height >= _LARGE_PIXELS else nullcontext()


def _memory_is_short(pixels: int | None) -> bool:
    """Does the system refuse what decoding can take? pixels: None where the header could not be read."""
    try:  # asked for and never touched: a bytearray would be filled with zeros
        mmap.mmap(-1, 2**28 if pixels is None else 2**26 + 16 * pixels).close()
    except OSError:
        return True
    return False


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8. Decodes nothing, unless a PNG says it behind its pixels."""
    file = getattr(image, "fp", None)  # None: all of it has been read
    if image.format == "PNG" and file is not None and _png_turns_at_its_end(file):
        with _one_at_a_time(image):
            image.load()
    # PngImageFile's own getexif would decode every picture without EXIF, to look for some behind the pixels.
    return Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)


def _png_turns_at_its_end(file: BinaryIO) -> bool:
    """Does a chunk behind a PNG's pixels hold EXIF or XMP? Chunks are skipped by their lengths."""
    before, seen_pixels = file.tell(), False
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            following = file.tell() + length + 4
            seen_pixels = seen_pixels or kind == b"IDAT"
            if seen_pixels and (
                kind == b"eXIf" or file.read(min(length, 30)).startswith(_PNG_TEXTS_THAT_TURN)
            ):
                return True
            file.seek(following)
        return False
    finally:
        file.seek(before)


def _check_size(width: int, height: int, limit: int, limit_key: str | None = LIMIT_KEY) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels ({width} x {height})")
    if width * height > limit:
        larger = "" if limit_key is None else f", or raise {limit_key}"
        raise ImageError(
            f"the picture has {width} x {height} pixels, more than {limit:,}; "
            f"a damaged header or a decompression bomb: store it smaller{larger}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError(
            "the picture has floating-point pixels, whose range nothing states; store it with 8 bits"
        )
    is_wide = image.mode in _SIXTEEN_BIT_MODES
    if not is_wide and not image.has_transparency_data:
        return image.convert("RGB")
    rgb = Image.new("RGB", image.size)
    for box in strips(image.width, image.height):
        strip = image.crop(box)
        rgb.paste(_from_wide_grey(strip) if is_wide else _on_white(strip), box)
    return rgb


def strips(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, upper, right, lower) of about a million pixels that make up a picture, top to bottom."""
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def picture_key(picture: Image.Image) -> int:
    """64 bits of size and pixels. In strips: the bytes of a whole picture would be held twice."""
    digest = hashlib.blake2b(repr(picture.size).encode(), digest_size=8)
    for box in strips(*picture.size):
        digest.update(picture.crop(box).tobytes())
    return int.from_bytes(digest.digest(), "big")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB")
    ground = Image.new("RGBA", rgba.size, "white")
    ground.alpha_composite(rgba)
    return ground.convert("RGB")


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to RGB: v * 255 / 65535, rounded."""
    import numpy as np

    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise ImageError("the picture has 32-bit pixels outside 0..65535; store it with 8 bits")
    return Image.fromarray(((values_HW * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
