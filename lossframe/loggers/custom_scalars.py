"""Lays out TensorBoard's tab "custom scalars": bands of each term, with train and val on one chart."""

from collections.abc import Mapping

from lossframe.loggers import tags
from lossframe.loggers.tensorboard import Layout
from lossframe.losses.base.loss import Loss
from lossframe.statistics import series


def layout(losses: Mapping[str, Loss]) -> Layout:
    """Return the layout for `add_custom_scalars`: a category of charts for each term, and one for the objective."""
    known = {each.suffix: each for each in series.SERIES}
    categories: dict[str, dict[str, tuple[str, list[str]]]] = {}
    for term, loss in losses.items():
        charts: dict[str, tuple[str, list[str]]] = {}
        for title, *suffixes in series.BANDS:
            curves = [known[suffix] for suffix in suffixes]
            if all(loss.shows(curve) for curve in curves):
                charts[f"{term}: {title}"] = ("Margin", [curve.tag(tags.of_loss(term)) for curve in curves])
        if charts:
            categories[term] = charts
    categories["objective"] = {
        "share of the total": ("Multiline", [f"{tags.SHARE}/.*"]),
        "weighted terms": ("Multiline", [f"{tags.WEIGHTED}/.*"]),
    }
    return categories
