"""What a page is made of, and how it becomes one file of HTML."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, ClassVar

from jinja2 import Environment, StrictUndefined

from lossframe.report.drawing import Chart
from lossframe.report.events import Picture

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `exact` is shown when it is pointed at, the best of a column is marked."""

    text: str
    exact: str = ""
    best: bool = False
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a head."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and what they are; a value may have several lines."""

    kind: ClassVar[str] = "facts"
    entries: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Folded:
    """A long text that is opened on demand."""

    kind: ClassVar[str] = "folded"
    title: str
    text: str


@dataclass(frozen=True)
class Image:
    """A logged image, at least 480 pixels wide where whole pixels allow it."""

    kind: ClassVar[str] = "image"
    picture: Picture
    caption: str

    @property
    def address(self) -> str:
        """The image itself."""
        return "data:image/png;base64," + base64.b64encode(self.picture.encoded).decode()

    @property
    def width(self) -> int:
        """How wide it is shown, in pixels."""
        return self.picture.width * max(1, 480 // max(1, self.picture.width))


Block = Table | Facts | Text | Folded | Chart | Image


@dataclass
class Section:
    """A title, blocks, and sections below."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    sections: list["Section"] = field(default_factory=list)


def number(value: float | None, best: bool = False) -> Cell:
    """Return a cell with four digits of a number, or a dash for none."""
    if value is None:
        return Cell(NOTHING, number=True)
    return Cell(f"{value:.4g}", repr(value), best, number=True)


def render(title: str, subtitle: str, sections: Sequence[Section], data: Mapping[str, Any]) -> str:
    """Return the page; `data` are in it as JSON, under the id `data`. All text is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    template = environment.from_string(files(__package__).joinpath("page.html.jinja").read_text("utf-8"))
    return template.render(title=title, subtitle=subtitle, sections=sections, data=_strict(data))


def _strict(data: Any) -> Any:
    """Return data that are JSON: its numbers have no NaN and no infinity, which become text."""
    if isinstance(data, Mapping):
        return {key: _strict(value) for key, value in data.items()}
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data
