"""What LossMonitor calls its curves."""

from collections.abc import Iterable

STATISTICS = ("std", "min", "p5", "p50", "p95", "p99", "max")
KINDS = ("loss", "weighted", "share", "weight", "final")
"""What a tag begins with that is no metric; `final` repeats metrics for TensorBoard's HParams tab."""


def means(tags: Iterable[str]) -> list[str]:
    """Return the tags that are not another tag's statistic, such as `loss/a` but not `loss/a_std`.

    >>> means(["loss/a", "loss/a_std", "loss/low_min", "accuracy"])
    ['loss/a', 'loss/low_min', 'accuracy']
    """
    known = list(dict.fromkeys(tags))
    derived = {f"{tag}_{statistic}" for tag in known for statistic in STATISTICS}
    return [tag for tag in known if tag not in derived]


def terms(tags: Iterable[str]) -> list[str]:
    """Return the names of the terms, without the total, in order of appearance.

    >>> terms(["loss/total", "loss/a", "loss/a/active", "loss/a_std", "weight/a", "accuracy"])
    ['a']
    """
    found = [tag.split("/")[1] for tag in means(tags) if tag.startswith("loss/")]
    return [name for name in dict.fromkeys(found) if name != "total"]


def extras(tags: Iterable[str], term: str) -> list[str]:
    """Return the tags of what a term logs beside its loss."""
    return [tag for tag in means(tags) if tag.startswith(f"loss/{term}/")]


def is_progress(tag: str) -> bool:
    """Tell learning rates, gradient norms and the speed, which say how training goes and not what it reached."""
    return tag.split("/", maxsplit=1)[0] in ("lr", "gradient_norm", "samples_per_second")


def metrics(tags: Iterable[str]) -> list[str]:
    """Return the tags of metrics: what is neither of a term nor of the optimisation.

    >>> metrics(["loss/a", "lr", "lr/0", "weight/a", "gradient_norm", "final/val/auroc", "precision_at_1"])
    ['precision_at_1']
    """
    return [tag for tag in means(tags) if tag.split("/")[0] not in KINDS and not is_progress(tag)]
