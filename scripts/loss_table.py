"""Write docs/losses.md from the docstrings of `lossframe.losses`: `python scripts/loss_table.py`."""

import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from lossframe import Loss, NativeLoss, Objective
from lossframe.losses import catalogue
from lossframe.losses.base.reduction import reduce
from lossframe.losses.catalogue import Entry

PAGE = Path(__file__).parent.parent / "docs" / "losses.md"
BASE = (reduce, Loss, NativeLoss, Objective)
HEAD = """# The losses

Made from the docstrings by `scripts/loss_table.py`. `python -m lossframe losses NAME` prints one with its parameters.

A formula gives one value per thing penalised. The base class weighs and reduces them, and is documented once:

{reduction}

A loss marked *relational* depends on other samples of the batch, and sees those of all ranks; a sample of weight 0 is
not in that batch. What is read is an entry of the frame; `inputs.NAME.PARAMETER=ENTRY` reads another one. *Entries in
italics are optional.*
"""
ORIGINS = """
## Coming from

What stands for the functions of `tf.contrib.losses`, tefla, `tflearn.objectives` and babilim, and of published
snippets ("blog"), and what is different here. "The same" is tested: value and gradient.

| from | function | here | what differs |
|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    entries = sorted(catalogue.entries(), key=lambda entry: (entry.loss.__module__, entry.loss.__name__))
    families = groupby(entries, key=lambda entry: entry.family)
    tables = [family(intro, list(members)) for intro, members in families]
    second = (inspect.getdoc(reduce) or "").split("\n\n")[1]
    return HEAD.format(reduction=second) + "".join(tables) + ORIGINS + "".join(sorted(rows(entries)))


def family(intro: str, members: Iterable[Entry]) -> str:
    """Return the section of one module, headed by its docstring."""
    title, _, rest = intro.partition(":")
    lines = [f"\n## {title}\n\n{math(capitalised(rest.strip()))}\n", "| loss | what it is | formula | reads | source |"]
    return "\n".join([*lines, "|---|---|---|---|---|", *map(row, members)]) + "\n"


def row(entry: Entry) -> str:
    """Return the table row of one loss."""
    kind = "<br>*relational*" if entry.loss.relational else ""
    reads = [f"*{name}*" if name in entry.loss.optional else f"`{name}`" for name in entry.loss.reads]
    sources = [f"[{title}]({link})" for title, link in entry.source]
    cells = [f"`{entry.name}`<br>`{entry.loss.__name__}`{kind}", entry.sentence, math(entry.formula)]
    return "| " + " | ".join([*cells, ", ".join(reads) or "the parameters", "; ".join(sources)]) + " |"


def rows(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a row for each function of another library."""
    documented: list[object] = [*BASE, *(entry.loss for entry in entries)]
    for here in documented:
        for origin in catalogue.origins(here):
            name = f"`{getattr(here, '__name__', here)}`"
            yield f"| {origin.library} | `{origin.function}` | {name} | {origin.difference} |\n"


def capitalised(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def math(text: str) -> str:
    """Return the text with `$x$` in the form that GitHub takes literally: its Markdown would eat backslashes."""
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", text)


if __name__ == "__main__":
    PAGE.write_text(page())
