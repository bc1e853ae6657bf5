"""Write docs/losses.md and docs/coming_from.md from docstrings, configurations and `scripts/peers`.

`python scripts/loss_table.py` renews both pages.
"""

import inspect
import re
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import coming_from

from lossframe import configs
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

"trains by" is what to type after `python train.py` or `lossframe train`: the loss, and an experiment with data and a
model that have what it reads, where the default ones have not.

What stands for the losses of Keras, torch, MONAI and nine others: [Coming from other libraries](coming_from.md).

## Reductions

With the values `v` of a formula and the weights `w`:

{reductions}
"""


class Setting(NamedTuple):
    """The entries that the data and model of an experiment provide, and those that its losses read."""

    provided: frozenset[str]
    read: frozenset[str]


@cache
def settings() -> dict[str, Setting]:
    """Return the settings of the default choices, named "", and of each experiment that chooses its data."""
    chosen = {name: defaults(f"experiment/{name}") for name in configs.choices("experiment")}
    with_data = {name: each for name, each in chosen.items() if "data" in each}
    return {name: setting(defaults("train") | each) for name, each in {"": {}, **with_data}.items()}


def defaults(path: str) -> dict[str, Any]:
    """Return the choices that a configuration makes, by group."""
    made = [each for each in configs.read(path)["defaults"] if isinstance(each, dict)]
    return {group.removeprefix("override /"): choice for each in made for group, choice in each.items()}


def setting(chosen: dict[str, Any]) -> Setting:
    """Return what the chosen data and model provide, and what the chosen losses read."""
    targets = [configs.read(f"{group}/{chosen[group]}")["_target_"] for group in ("data", "model")]
    provided = [resolve_name(target).provides for target in targets]
    losses = [chosen["loss"]] if isinstance(chosen["loss"], str) else chosen["loss"]
    wired = [configs.read(f"loss/{name}")["inputs"][name] for name in losses]
    return Setting(frozenset().union(*provided), frozenset(entry for each in wired for entry in each.values()))


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
    lines = [
        f"\n## {title}\n\n{math(capitalised(rest.strip()))}\n",
        "| loss | what it is | formula | reads | trains by | source |",
    ]
    return "\n".join([*lines, "|---|---|---|---|---|---|", *map(row, members)]) + "\n"


def row(entry: Entry) -> str:
    """Return the table row of one loss."""
    kind = "<br>*relational*" if entry.loss.relational else ""
    read = {name: name if name == source else f"{name}={source}" for name, source in entry.wiring.items()}
    reads = [f"*{text}*" if name in entry.loss.optional else f"`{text}`" for name, text in read.items()]
    sources = [f"[{title}]({link})" for title, link in entry.source]
    cells = [f"`{entry.name}`<br>`{entry.loss.__name__}`{kind}", entry.sentence, math(entry.formula)]
    trains = f"`{' '.join(command(entry))}`"
    return "| " + " | ".join([*cells, ", ".join(reads) or "the parameters", trains, "; ".join(sources)]) + " |"


def command(entry: Entry) -> list[str]:
    """Return the arguments of a command that trains a loss.

    Of the experiments whose data and model list all entries that the loss reads, it names the first of those whose own
    losses read the most of them.
    """
    if entry.name == "categorical_accuracy" or not entry.wiring:  # without a gradient, or a penalty alone
        return [f"'loss=[cross_entropy,{entry.name}]'"]
    reads = {source for name, source in entry.wiring.items() if name not in entry.loss.optional}
    fitting = {name: each for name, each in settings().items() if reads <= each.provided}
    best = min(fitting, key=lambda name: (name != "", -len(reads & fitting[name].read), name))
    return [f"loss={entry.name}", *([f"experiment={best}"] if best else [])]


def capitalised(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def math(text: str) -> str:
    """Return the text with `$x$` in the form that GitHub takes literally: its Markdown would eat backslashes."""
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", text)


if __name__ == "__main__":
    PAGE.write_text(page())
    coming_from.PAGE.write_text(coming_from.page())
