"""Makes docs/coming_from.md of the table `peers` and of the docstrings of `lossframe.losses`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import peers
from peers import Row

from lossframe import Loss, NativeLoss, Objective
from lossframe.losses import catalogue
from lossframe.losses.base.reduction import reduce

PAGE = Path(__file__).parent.parent / "docs" / "coming_from.md"
DOCUMENTED: list[object] = [reduce, Loss, NativeLoss, Objective, *(entry.loss for entry in catalogue.entries())]
HEAD = """# Coming from other libraries

Made by `scripts/loss_table.py` from the table in `scripts/peers`. Each row is tested: value and gradient of the loss
there and here, the defaults, and where weights are taken, the reduction under weights.

The prediction comes first, the target second (in Keras and tf.contrib the target comes first). Classes are on dim 1 (in
Keras, tf.contrib and optax they are last). "there is" says what the loss there gives in terms of the loss here: `C` is
the number of classes, `D` the number of elements of a sample, and "about" means equal up to an epsilon. "there" is what
the loss gives with its defaults. The default reduction here is "mean" in every loss; where that of a library is another
one, the call here names it. [The reductions side by side](losses.md#reductions).

A criterion that has no row is wrapped: `NativeLoss(torch.nn.PoissonNLLLoss())` records and reduces like any loss.

torchmetrics has metrics, which stay as they are, and no losses. Its aggregators `MeanMetric`, `MinMetric` and
`MaxMetric` are not needed for losses, which record these numbers by themselves;
[`Statistics`](api/statistics.md) is for other values.
"""
TABLE = """
| there | here | there is | defaults there | defaults here | reduction there | what differs |
|---|---|---|---|---|---|---|
"""
REST = """
## Functions that are no losses, and older libraries

What stands for other functions of `tf.contrib.losses` and babilim, for those of tefla and `tflearn.objectives`, and for
published snippets ("blog"). `tests/losses/test_golden.py` compares their numbers.

| from | function | here | what differs |
|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    sections = [section(library, version) for library, version in peers.LIBRARIES.items()]
    return HEAD + "".join(sections) + REST + "".join(sorted(rest()))


def section(library: str, version: str) -> str:
    """Return the section of one library."""
    rows = sorted((row for row in peers.ROWS if row.library == library), key=lambda row: row.there)
    return f"\n## {library}\n\n{version}.\n{TABLE}" + "".join(map(line, rows))


def line(row: Row) -> str:
    """Return the table row of one loss."""
    gives = f"{'about ' if row.rtol > 1e-9 else ''}`{row.gives}`"
    defaults = [arguments(row.defaults_there), arguments(row.defaults_here)]
    cells = [f"`{row.there}`", f"`{row.call}`", gives, *defaults, row.reduction, row.difference]
    return "| " + " | ".join(cells) + " |\n"


def arguments(defaults: dict[str, Any]) -> str:
    """Return defaults as they are written in a call."""
    return ", ".join(f"`{name}={value!r}`" for name, value in defaults.items())


def rest() -> Iterator[str]:
    """Yield a row for each function that a docstring speaks of, and that has no row in the table."""
    listed = {(row.library, row.function) for row in peers.ROWS}
    for here, origin in origins():
        if (origin.library, origin.function) not in listed:
            name = f"`{getattr(here, '__name__', here)}`"
            yield f"| {origin.library} | `{origin.function}` | {name} | {origin.difference} |\n"


def origins(documented: Iterable[object] = DOCUMENTED) -> Iterator[tuple[object, catalogue.Origin]]:
    """Yield what the docstrings say of functions of other libraries."""
    for here in documented:
        for origin in catalogue.origins(here):
            yield here, origin
