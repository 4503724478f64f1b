"""The project's Markdown documents: their links, their code blocks, and the commands that they show."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks/results").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("gmpo-vl", "make", "bash", "pip", "python", "pytest", "PIP_CONSTRAINT=")
# What this machine may lack. A command says so in a comment behind it, in a table in one of HTML.
NEEDS = re.compile(r"(?:#|<!--) (GPU|EasyR1|verl|TRL|ms-swift|endpoint)\b")


@dataclass(frozen=True)
class Command:
    """One line that a document shows. needs: what it cannot do without ("GPU", "TRL"); empty: nothing."""

    text: str
    needs: str
    document: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall(document.read_text(encoding="utf-8"))


def commands_of(document: Path) -> list[Command]:
    """Lines of bash blocks; of the two first pages also whole commands in the cells of tables."""
    found = []
    for kind, text in blocks(document):
        found += [(line.split("  #")[0].strip(), line) for line in text.splitlines() if kind == "bash"]
    for line in BLOCK.sub("", document.read_text(encoding="utf-8")).splitlines():
        if line.startswith("|") and document.parent == ROOT:
            codes = re.findall(r"`([^`]+)`", line)
            found += [(code, line) for code in codes if code.startswith(PROGRAMS) and " " in code]
    needs = ((text, NEEDS.search(line)) for text, line in found)
    return [Command(text, of[1] if of else "", name_of(document)) for text, of in needs]


def all_commands() -> list[Command]:
    """Each command once."""
    found: dict[str, Command] = {}
    for document in DOCUMENTS:
        for command in commands_of(document):
            found.setdefault(command.text, command)
    return list(found.values())


def links_of(document: Path) -> list[str]:
    """Targets of links and pictures, in Markdown and in HTML, that lead into the repository."""
    text = re.sub(
        r"`[^`\n]*`|<!--.*?-->", "", BLOCK.sub("", document.read_text(encoding="utf-8")), flags=re.DOTALL
    )
    targets = re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    return [target for target in targets if "://" not in target]


def anchors_of(document: Path) -> set[str]:
    """The names that a page's headings can be linked by."""
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
