"""Defines the blocks of a page, and renders them into one HTML file."""

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
    """Cell of a table; `exact` is shown on hovering, `best` marks the best value of a column."""

    text: str
    exact: str = ""
    best: bool = False
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Table with a head and a note below."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """List of names, each with one or more lines of text."""

    kind: ClassVar[str] = "facts"
    entries: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Text:
    """Paragraph, highlighted if it is a warning."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Folded:
    """Long text that the reader can unfold."""

    kind: ClassVar[str] = "folded"
    title: str
    text: str


@dataclass(frozen=True)
class Image:
    """Logged image, enlarged by a whole factor to at most 480 pixels if it is narrower."""

    kind: ClassVar[str] = "image"
    picture: Picture
    caption: str

    @property
    def address(self) -> str:
        """Image as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.picture.encoded).decode()

    @property
    def width(self) -> int:
        """Displayed width in pixels."""
        return self.picture.width * max(1, 480 // max(1, self.picture.width))


Block = Table | Facts | Text | Folded | Chart | Image


@dataclass
class Section:
    """Section with a title, blocks and subsections."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    sections: list["Section"] = field(default_factory=list)


def number(value: float | None, best: bool = False) -> Cell:
    """Return a cell with four digits of a number, or a dash for none."""
    if value is None:
        return Cell(NOTHING, number=True)
    return Cell(f"{value:.4g}", repr(value), best, number=True)


def render(title: str, subtitle: str, sections: Sequence[Section], data: Mapping[str, Any]) -> str:
    """Return the page as HTML, with all text escaped, and with `data` as JSON in the element `data`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    template = environment.from_string(files(__package__).joinpath("page.html.jinja").read_text("utf-8"))
    return template.render(title=title, subtitle=subtitle, sections=sections, data=_strict(data))


def _strict(data: Any) -> Any:
    """Return data that JSON can hold: NaN and infinity become text."""
    if isinstance(data, Mapping):
        return {key: _strict(value) for key, value in data.items()}
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data
