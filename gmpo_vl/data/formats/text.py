"""The encoding of a text file: UTF-8, or what its byte order mark or its letters say."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gmpo_vl.data.rows import DataError

# The UTF-32 mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {"gb18030": "GBK (GB18030)", "cp1252": "Windows-1252 (Latin-1)"}
_CHUNK = 2**20
_SAMPLE = 2**20  # bytes of words with foreign letters that the encoding is seen by
_LARGEST = 2**29  # bytes of a file that is held in memory as UTF-8

# No byte below 0x30 is a part of a longer character, in UTF-8 and GB18030.
_FOREIGN_WORD = re.compile(rb"(?<![\x30-\xff])[\x30-\x7f]*[\x80-\xff][\x30-\xff]*")
# What cp1252 makes of other 8-bit encodings: letters of Icelandic only, capitals and signs inside a word,
# letters behind a digit.
_ODD = re.compile(
    r"[þÞðÐýÝÿ¤¦¨¬¯¸]|(?<=[a-z])[À-ÞŠŽŒŸ]|(?<=\d)[À-ÖØ-öø-ÿ]|(?<=[a-z])[¡-©«®-±³¶¹»-¿‚ƒ„†‡ˆ‰‹›](?=[a-z])"
)
# The same of Romanian and Hungarian in cp1250: Portuguese has no consonant behind ã but s and z, and õ ends
# no word in any language of cp1252.
_CENTRAL = re.compile(r"ã(?=[b-df-hj-np-rtvwx])|(?<=[a-zà-ÿ])õ(?![a-zà-ÿ])")


@dataclass(frozen=True)
class TextFile:
    """A file as UTF-8. content: of one in another encoding; None: it is read from the disk as it is."""

    path: Path
    content: bytes | None = None
    notes: tuple[str, ...] = ()

    def open(self) -> BinaryIO:
        return open(self.path, "rb") if self.content is None else io.BytesIO(self.content)


def open_text(path: Path) -> TextFile:
    """The file, in memory (at most 512 MiB) where it is not UTF-8; a note then says what it was read as.

    A file in UTF-8 with damaged bytes, or in no encoding that is known here, stays as it is: rows.py refuses
    the rows with such bytes. Raises DataError for a file that breaks its own encoding, or is too large.
    """
    encoding = _encoding_of(path)
    if encoding is None:
        return TextFile(path)
    name = _NAMES.get(encoding, encoding.upper())
    if (size := path.stat().st_size) > _LARGEST:
        target = path.with_suffix(f".utf8{path.suffix}")
        raise DataError(
            f"{path}: {size:,} bytes in {name} are too many to hold; save it as UTF-8 once: "
            f"iconv -f {encoding.upper()} -t UTF-8 '{path}' > '{target}'"
        )
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: it seems to be {name}, and byte {error.start:,} is none of it ({error.reason}); "
            "save it as UTF-8"
        ) from error
    return TextFile(path, text.encode(), (f"read as {name}; if letters look wrong, save it as UTF-8",))


def _encoding_of(path: Path) -> str | None:
    """Python's name of it; None for UTF-8, and where nothing else fits better. Raises DataError for a text
    with many bytes of 0 that is not clearly UTF-16.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    if head.count(0) > 3:
        marks = {encoding: _marks(head, encoding) for encoding in ("utf-16-le", "utf-16-be")}
        least, most = sorted(marks.values())
        if most > 2 and most > 4 * least:
            return max(marks, key=lambda encoding: marks[encoding])
        if 20 * head.count(0) > len(head):
            raise DataError(f"{path}: its bytes of 0 are those of UTF-16 or UTF-32; save it as UTF-8")
    if _is_utf8(path):
        return None
    sample = _foreign_words(path)
    right, wrong = _letters_as_utf8(sample)
    if 2 * right > wrong:  # of GBK's bytes, few look like UTF-8 by chance
        return None
    if is_chinese(sample):
        return "gb18030"
    return "cp1252" if right == 0 and _is_western(sample) else None


def _marks(head: bytes, encoding: str) -> int:
    """How many signs of tables and of JSON there are; 0 where there is a character 0, as no text has."""
    text = head.decode(encoding, errors="replace")
    return 0 if "\0" in text else sum(map(text.count, '\n\t,;"'))


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in _chunks(path):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _foreign_words(path: Path) -> bytes:
    """The first words with bytes above 0x7f, a space between them. What a chunk cuts is left out."""
    words: list[bytes] = []
    size = 0
    for number, chunk in enumerate(_chunks(path)):
        for match in _FOREIGN_WORD.finditer(chunk):
            is_cut = match.end() == _CHUNK or (match.start() == 0 and number > 0)
            if not is_cut:
                words.append(match[0])
                size += len(match[0])
        if size > _SAMPLE:
            break
    return b" ".join(words)


def _letters_as_utf8(sample: bytes) -> tuple[int, int]:
    """(characters above 0x7f, bytes that are none)."""
    text = sample.decode("utf-8", errors="surrogateescape")
    wrong = sum("\udc80" <= character <= "\udcff" for character in text)
    return sum(character > "\x7f" for character in text) - wrong, wrong


def is_chinese(sample: bytes) -> bool:
    """Are four in five characters common ones: punctuation, or of the 3,755 that GB2312 lists first?

    Those stand in the order of their sounds, so Chinese has many of the second half. Korean (EUC-KR) has its
    syllables in the place of the first half only; Japanese (EUC-JP) has kana.
    """
    try:
        text = sample.decode("gb18030")
    except UnicodeDecodeError:
        return False
    rows: Counter[int] = Counter()
    for character in text:
        if character > "\x7f":
            rows[(character.encode("gb2312", errors="ignore") or b"\0")[0]] += 1
    signs = sum(rows[row] for row in (0xA1, 0xA2, 0xA3, 0xA6))
    early, late = (sum(rows[row] for row in part) for part in (range(0xB0, 0xC9), range(0xC9, 0xD8)))
    is_one_sided = early + late >= 12 and 10 * late < early
    return 5 * (signs + early + late) >= 4 * rows.total() and not is_one_sided


def _is_western(sample: bytes) -> bool:
    """Do foreign letters stand alone or in pairs among Latin ones, as in western European languages?"""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    count = sum(character > "\x7f" for character in text)
    in_runs = sum(map(len, re.findall(r"[^\0-\x7f]{3,}", text)))
    is_odd = 10 * len(_ODD.findall(text)) > count or 50 * len(_CENTRAL.findall(text)) > count
    return 3 * in_runs <= count and not is_odd
