"""Finds the loss that records what a wrapped loss logs in its formula."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossframe.losses.base.loss import Loss


def recording(loss: "Loss") -> "Loss":
    """Return the wrapper, or the wrapper of a wrapper, that is calling a loss's formula; else the loss itself."""
    owner = loss.owner
    while owner is not None and not owner._in_formula:
        owner = owner.owner
    return loss if owner is None else owner
