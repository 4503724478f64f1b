"""Pictures in folders and archives, for tests of what their names mean."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

from PIL import Image

from gmpo_vl.data.pictures.folder import PictureFolder
from gmpo_vl.data.rows import RowError

FORMS = ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "zip in the folder", "tar in the folder"]


def packed(form: str, names, folder) -> PictureFolder:
    """The names as files, or as members of an archive; each holds its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = form.partition(" ")[0]
    if kind == "folder":
        for name in names:
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return PictureFolder(folder / "images")
    path = folder / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        path.write_bytes(tar_of({name: name.encode() for name in names}, kind))
    return PictureFolder(folder if "in the folder" in form else path)


def tar_of(members: dict[str, bytes], kind: str = "tar") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compressed(buffer.getvalue(), kind)


def compressed(raw: bytes, kind: str) -> bytes:
    compress = {"tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
    return compress.get(kind, bytes)(raw)


def found(pictures: PictureFolder, name: str) -> str:
    """Which of the packed names was found, or the reason of the refusal."""
    try:
        picture = pictures.find(name)
    except RowError as error:
        return error.reason
    return (open(picture, "rb").read() if isinstance(picture, str) else picture).decode()


def png_of(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


NAMES = ["geo/1.png", "chart/1.png", "chart/deep/2.JPG", "top.png", "0001.jpg", "a/0007.png", "b/0007.jpeg"]
