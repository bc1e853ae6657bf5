"""Write docs/losses.md and docs/coming_from.md from docstrings, configurations and `scripts/peers`.

`python scripts/loss_table.py` renews both pages.
"""

import inspect
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import coming_from

from lossframe.losses import catalogue
from lossframe.losses.base.reduction import reduce
from lossframe.losses.catalogue import Entry

PAGE = Path(__file__).parent.parent / "docs" / "losses.md"
HEAD = """# The losses

Made from the docstrings by `scripts/loss_table.py`. `python -m lossframe losses NAME` prints one with its parameters.

A formula gives one value per thing penalised. The base class weighs and reduces them, see [Reductions](#reductions).
A loss marked *relational* depends on other samples of the batch, and sees those of all ranks; a sample of weight 0 is
not in that batch.

"reads" names the parameters of the call, `CrossEntropyLoss()(logits, target)`. In a run, a parameter reads the entry of
the frame that has its name, or the one behind the equals sign: `target=labels` is the default of `conf/loss`, and
`inputs.cross_entropy.target=coarse` reads another entry. *Parameters in italics are optional.*

What stands for the losses of Keras, torch, MONAI and nine others: [Coming from other libraries](coming_from.md).

## Reductions

With the values `v` of a formula and the weights `w`:

{reductions}
"""


def page() -> str:
    """Return the whole page."""
    entries = sorted(catalogue.entries(), key=lambda entry: (entry.loss.__module__, entry.loss.__name__))
    families = groupby(entries, key=lambda entry: entry.family)
    tables = [family(intro, list(members)) for intro, members in families]
    table, notes = (inspect.getdoc(reduce) or "").split("\n\n")[1:3]
    return HEAD.format(reductions=f"{table}\n\n{notes}") + "".join(tables)


def family(intro: str, members: Iterable[Entry]) -> str:
    """Return the section of one module, headed by its docstring."""
    title, _, rest = intro.partition(":")
    lines = [f"\n## {title}\n\n{math(capitalised(rest.strip()))}\n", "| loss | what it is | formula | reads | source |"]
    return "\n".join([*lines, "|---|---|---|---|---|", *map(row, members)]) + "\n"


def row(entry: Entry) -> str:
    """Return the table row of one loss."""
    kind = "<br>*relational*" if entry.loss.relational else ""
    read = {name: name if name == source else f"{name}={source}" for name, source in entry.wiring.items()}
    reads = [f"*{text}*" if name in entry.loss.optional else f"`{text}`" for name, text in read.items()]
    sources = [f"[{title}]({link})" for title, link in entry.source]
    cells = [f"`{entry.name}`<br>`{entry.loss.__name__}`{kind}", entry.sentence, math(entry.formula)]
    return "| " + " | ".join([*cells, ", ".join(reads) or "the parameters", "; ".join(sources)]) + " |"


def capitalised(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def math(text: str) -> str:
    """Return the text with `$x$` in the form that GitHub takes literally: its Markdown would eat backslashes."""
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", text)


if __name__ == "__main__":
    PAGE.write_text(page())
    coming_from.PAGE.write_text(coming_from.page())
