"""Lightning callback that shows how the gradients of an objective's terms compare."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from lossframe.callbacks.base import MonitorCallback
from lossframe.counts import check_counts
from lossframe.errors import InputError
from lossframe.objectives.diagnostics import cosines
from lossframe.objectives.gradients import Gramian
from lossframe.objectives.objective import Objective


class TermGradients(MonitorCallback):
    """Records norm, share and cosines of the gradients of an objective's weighted terms, every `every_n_batches`.

    The curves are `gradient/TERM`, `gradient_share/TERM` and `cosine/A~B`. The gradients are those at the objective's
    `balance_at`; each costs a backward pass from the term to this place, in these batches only. With `picture`, the
    cosines of the last such batch are drawn in TensorBoard as a matrix at the end of each epoch.
    """

    def __init__(self, every_n_batches: int = 50, picture: bool = True) -> None:
        check_counts(self, every_n_batches=every_n_batches)
        self.every_n_batches = every_n_batches
        self.picture = picture
        if picture and find_spec("matplotlib") is None:
            raise InputError("TermGradients draws with matplotlib: pip install lossframe[report], or picture=false")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise an `InputError` before training if the trainer has no LossMonitor, or the module no Objective."""
        super().setup(trainer, pl_module, stage)
        if not _objectives(pl_module):
            raise InputError(
                f"TermGradients compares the terms of an Objective, and {type(pl_module).__name__} has none: make one "
                "an attribute of it, or leave TermGradients out"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make the objectives record the gradients of this batch, if it is due."""
        due = self.monitor(trainer).batches_seen % self.every_n_batches == 0
        for objective in _objectives(pl_module).values():
            objective.shows_gradients = due

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the cosines of the last batch that has recorded them."""
        seen = {path: each.gramian for path, each in _objectives(pl_module).items() if each.gramian is not None}
        if not self.picture:
            return
        for writer, step in self.writers(trainer, "train"):
            for path, gramian in seen.items():
                tag = "pictures/cosines" if len(seen) == 1 else f"pictures/cosines/{path}"
                writer.add_image(tag, draw(gramian), step, dataformats="HWC")


def _objectives(module: pl.LightningModule) -> dict[str, Objective]:
    return {path: each for path, each in module.named_modules() if isinstance(each, Objective)}


def draw(gramian: Gramian) -> NDArray[np.uint8]:
    """Draw the cosines of a Gramian as an image [H, W, 3], with the norms of the gradients beside the names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an optional dependency
    from matplotlib.figure import Figure  # noqa: PLC0415

    matrix = gramian.matrix.cpu()
    shown, norms = cosines(matrix).numpy(), matrix.diagonal().clamp_min(0).sqrt().tolist()
    side = min(2.5 + 0.6 * len(norms), 12.0)  # inches
    figure = Figure((side, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shown, cmap="RdBu", vmin=-1, vmax=1)
    axes.set_title("cosines of gradients")
    axes.set_xticks(range(len(norms)), gramian.names, rotation=90)
    axes.set_yticks(range(len(norms)), [f"{name} {norm:.2g}" for name, norm in zip(gramian.names, norms, strict=True)])
    for (row, column), cosine in np.ndenumerate(shown):
        colour = "white" if abs(cosine) > 0.6 else "black"
        axes.text(column, row, f"{cosine:.2f}", ha="center", va="center", color=colour, fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
