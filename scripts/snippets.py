"""Reads the fenced blocks of README and docs/, so that tests and scripts run what users will type.

A comment before a block says what is special about it: `<!-- skip: WHY -->` for a block that is not run,
`<!-- dry: WHY -->` for commands that need other devices than the machine has, or a name by which tests find the block.
A block that begins with `# PATH` is a file: `PATH` ends in .py or .yaml. Hydra wants its own header before that.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"(?P<comments>(?:^<!-- .*? -->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"(?:# @package \w+\n)?# ([\w/.-]+\.(?:py|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line there, its language, its comments, and its text."""

    page: Path
    line: int
    language: str
    comments: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """The path of the file that the block shows; None if the block is something to run."""
        named = _FILE.match(self.text)
        return named[1] if named else None

    @property
    def runs(self) -> bool:
        """Whether the block is to be run, or the file to be used."""
        return not any(comment.startswith("skip:") for comment in self.comments)

    @property
    def is_dry(self) -> bool:
        """Whether the machine may lack what the commands of the block need."""
        return any(comment.startswith("dry:") for comment in self.comments)

    def commands(self) -> Iterator[str]:
        """Yield the commands of a shell block without comments, those that continue a line joined to it."""
        for line in self.text.replace("\\\n", "").splitlines():
            if command := re.split(r"(?:^|\s+)#", line)[0].strip():
                yield command


def documents() -> list[Path]:
    """Return the pages that users read: README, and docs/ without what is generated and without the decisions."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in pages if "decisions" not in page.parts)]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: found.start("text")].count("\n") + 1,
            found["language"],
            tuple(re.findall(r"<!-- (.*?) -->", found["comments"])),
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


def furnish(folder: Path, pages: Iterable[Path], photos: int) -> None:
    """Write what pages take for granted: the files that they show, a table, and photos of three classes."""
    for page in pages:
        for block in blocks(page):
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.text)
    rows = [f"{50 + 3 * k},{('Ulm', 'Bonn', 'Kiel')[k % 3]},{200 + 7 * k + k % 5}.5" for k in range(40)]
    (folder / "houses.csv").write_text("\n".join(["area,town,price", *rows]))
    for label in range(3):
        (folder / "photos" / str(label)).mkdir(parents=True)
        for number in range(photos):
            image = Image.new("RGB", (8, 8), (80 * label, 255 * number // photos, 0))
            image.save(folder / "photos" / str(label) / f"{number}.png")


def marked(name: str) -> str:
    """Return the text of the block that has a name."""
    found = [block.text for page in documents() for block in blocks(page) if name in block.comments]
    if len(found) != 1:
        raise LookupError(f"wanted one block after <!-- {name} --> in README and docs/, found {len(found)}")
    return found[0]
