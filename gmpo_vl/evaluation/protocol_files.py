"""Which file or data set a protocol's questions are read from: --data, a file in that folder, or its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gmpo_vl.data.sources import SPLIT_OF, SUFFIXES
from gmpo_vl.evaluation.protocols import SUITES, load_protocol, protocol_names

# {folder of the protocols' data: the script that writes it}
_MAKES = {
    "data/text": "text_benchmarks.py SUITE {folder}",
    "data/alfworld": "alfworld.py GAMES {folder}",
    "data/gridworld": "gridworld.py {folder}",
    "data/vision": "vision_benchmarks.py NAME SOURCE {folder}",
}


def source_of(data: str | None, usual: str) -> str | None:
    """--data in the place of a protocol's data (`usual`): its file where --data is a folder that holds it,
    else --data as it is; None for the protocol's own.

    Raises FileNotFoundError where the protocol's file is not here, also where --data is a folder of other
    protocols' files: its rows would be asked under this protocol's name.
    """
    file = _file_of(data, usual)
    if data is None:
        if _made_by(usual) and not file.exists():
            raise FileNotFoundError(_not_here([usual]))
        return None
    if file.is_file():
        return str(file)
    if others := _files_of_others(Path(data), file.stem):
        raise FileNotFoundError(
            f"--data {data}: no {file.name} there; it holds {', '.join(others)}, which other protocols ask. "
            "Name a file, or a folder with rows of your own"
        )
    return data


def check_suite(suite: str, data: str | None) -> None:
    """Look up the files of all protocols of a suite, before the first is asked. Data of the hub need not lie
    in --data. Raises FileNotFoundError that names all missing ones, or for --data that is no folder."""
    if data is not None and not Path(data).is_dir():
        raise FileNotFoundError(
            f"--data {data} is no folder: each protocol of {suite} has a file of its own. "
            "With one protocol's name instead of the suite's, --data takes a file or a hub id"
        )
    asked = [load_protocol(name).data for name in SUITES[suite]]
    if missing := [usual for usual in asked if _made_by(usual) and not _file_of(data, usual).is_file()]:
        raise FileNotFoundError(_not_here(missing, data))


def source_in_suite(data: str | None, usual: str) -> str | None:
    """As `source_of`, where `check_suite` has found the files: data of the hub stays unless --data has it."""
    file = _file_of(data, usual)
    return str(file) if data is not None and file.is_file() else None


def _file_of(data: str | None, usual: str) -> Path:
    """Where a protocol's data lies as one file: as it says, or in the folder --data. There that of the hub,
    hiyouga/geometry3k@test, is geometry3k.parquet."""
    if data is None:
        return Path(usual)
    name = Path(usual.partition("@")[0]).name
    return Path(data) / (name if Path(name).suffix else f"{name}.parquet")


def _files_of_others(folder: Path, own: str) -> list[str]:
    """Tables in the folder that are called as the data of shipped protocols, other than `own`; not `test` and
    the like, which say nothing."""
    known = {Path(load_protocol(name).data).stem for name in protocol_names()} - {own, *SPLIT_OF}
    tables = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted({path.name for path in tables if path.stem in known})


def _made_by(usual: str) -> str | None:
    return _MAKES.get(str(Path(usual).parent))


def _not_here(missing: Sequence[str], data: str | None = None) -> str:
    """The sentence for a protocol's file, or several, with the commands that write them."""
    files = ", ".join(str(_file_of(data, usual)) for usual in missing)
    commands = {str(_made_by(usual)).format(folder=data or Path(usual).parent) for usual in missing}
    written = " and ".join(f"`python data_prep/{command}`" for command in sorted(commands))
    them, other = ("it" if len(missing) == 1 else "them"), "; --data names another place" * (data is None)
    return f"{files}: not here. {written} writes {them}{other}"
