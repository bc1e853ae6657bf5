"""The page of TensorBoard's "custom scalars": for each term a mean with bands, train and val on one chart."""

from collections.abc import Mapping
from typing import Any

from lossframe.losses.base.loss import Loss


def layout(losses: Mapping[str, Loss]) -> dict[str, dict[str, list[Any]]]:
    """Return the categories and charts for these terms, of the curves that they show, as `add_custom_scalars` takes it.

    A band from min to max has its middle line at the mean, one from p5 to p95 at the median.
    """
    categories: dict[str, dict[str, list[Any]]] = {}
    for term, loss in losses.items():
        charts: dict[str, list[Any]] = {}
        tag = f"loss/{term}"
        if loss.log_quantiles:
            charts[f"{term}: median, 5% to 95%"] = ["Margin", [f"{tag}_p50", f"{tag}_p5", f"{tag}_p95"]]
        if loss.log_min and loss.log_max:
            charts[f"{term}: mean, min to max"] = ["Margin", [tag, f"{tag}_min", f"{tag}_max"]]
        if charts:
            categories[term] = charts
    categories["objective"] = {
        "share of the total": ["Multiline", ["share/.*"]],
        "weighted terms": ["Multiline", ["weighted/.*"]],
    }
    return categories
