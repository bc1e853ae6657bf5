"""The catalogue in words: what the docstrings and configurations of `lossframe.losses` say of each loss."""

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lossframe import configs, losses
from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.loss import Loss

_LINKED = re.compile(r"(?P<title>[^;]+?), (?P<link>https?://[^\s;,]+?)(?=[;,.]?(\s|$))")


@dataclass(frozen=True)
class Origin:
    """A function of another library, and what differs from it here."""

    library: str
    function: str
    difference: str


@dataclass(frozen=True)
class Entry:
    """One loss: the name of its file in `conf/loss`, and its class."""

    name: str
    loss: type[Loss]

    @property
    def family(self) -> str:
        """The docstring of its module."""
        return inspect.getdoc(sys.modules[self.loss.__module__]) or ""

    @cached_property
    def paragraphs(self) -> list[str]:
        """The paragraphs of its docstring before the example, each on one line."""
        prose = (inspect.getdoc(self.loss) or "").partition(">>>")[0]
        return [" ".join(paragraph.split()) for paragraph in prose.split("\n\n") if paragraph.strip()]

    @property
    def sentence(self) -> str:
        """What it is, in one sentence without symbols."""
        before, dollar, _ = self.paragraphs[0].partition("$")
        return re.sub(r"[:,][^:,]*$", "", before).strip() if dollar else before.rstrip(".")

    @property
    def formula(self) -> str:
        """Its formula, with LaTeX between dollars."""
        return self.paragraphs[0].removeprefix(self.sentence).lstrip(":, ").rstrip(".")

    @property
    def details(self) -> str:
        """What else is to be known, without the source."""
        rest = " ".join(p for p in self.paragraphs[1:] if not p.startswith("Coming from "))
        return rest.partition("Source: ")[0].strip()

    @property
    def source(self) -> list[tuple[str, str]]:
        """The titles and links of its sources."""
        text = " ".join(self.paragraphs[1:]).partition("Source: ")[2].partition("Coming from ")[0]
        return [(match["title"].strip(), match["link"]) for match in _LINKED.finditer(text)]

    @property
    def parameters(self) -> dict[str, str]:
        """The defaults of its parameters, as written in Python; those of a loss that wants one are `required`."""
        parameters = inspect.signature(self.loss.__init__).parameters.values()
        own = [p for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        return {p.name: "required" if p.default is p.empty else repr(p.default) for p in own}

    @property
    def wiring(self) -> Mapping[str, Any]:
        """What each parameter reads of the frame, as configured."""
        inputs: Mapping[str, Any] = configs.read(f"loss/{self.name}")["inputs"][self.name]
        return {parameter: inputs[parameter] for parameter in self.loss.reads}


def entries() -> list[Entry]:
    """Return all losses, by the names of their files."""
    return [_entry(name) for name in configs.choices("loss")]


def find(name: str) -> Entry:
    """Return one loss; a misspelt name is an `InputError` with the nearest right one."""
    known = configs.choices("loss")
    if name not in known:
        hint = nearest(name, known) or f" There are {names(known)}."
        raise InputError(f"there is no loss {name!r}.{hint}")
    return _entry(name)


def origins(documented: object) -> list[Origin]:
    """Return what the lines `Coming from LIBRARY `function`: what differs.` of a docstring say."""
    found = re.split(r"^Coming from ", inspect.getdoc(documented) or "", flags=re.MULTILINE)[1:]
    matches = [re.match(r"(\S+) `([^`]+)`: (.+?)\.(?:\n\n|$)", text.strip() + "\n\n", re.DOTALL) for text in found]
    return [Origin(m[1], m[2], " ".join(m[3].split())) for m in matches if m]


def _entry(name: str) -> Entry:
    return Entry(name, getattr(losses, configs.target(name)))
