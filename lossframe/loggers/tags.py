"""Defines the tags of all curves, which the monitor writes, and the report and the HParams tab read."""

import re
from collections.abc import Iterable

from lossframe.statistics import series

LOSS, WEIGHTED, SHARE, WEIGHT, VALUES, FINAL = "loss", "weighted", "share", "weight", "values", "final"
GRADIENT, GRADIENT_SHARE, COSINE = "gradient", "gradient_share", "cosine"
"""First parts of tags other than metrics: of terms, of histograms, of final results in the HParams tab, and of the
gradients of terms: norms, their shares, and cosines between two terms."""
TOTAL = "total"
"""Name of an objective's total among the terms."""
RATE, NORM, SPEED = "lr", "gradient_norm", "samples_per_second"
"""Tags that describe the progress of training, not its result."""
SAMPLES, EPOCH = "samples_seen", "epoch"
"""Columns of x axes in loggers that write tables; Lightning itself writes the latter, and calls the step `step`."""


def of_loss(term: str, name: str = LOSS) -> str:
    """Return the tag of a term's mean, or of a value that the term's loss logs under a name.

    >>> of_loss("triplet"), of_loss("triplet", "active_triplets")
    ('loss/triplet', 'loss/triplet/active_triplets')
    """
    return f"{LOSS}/{term}" if name == LOSS else f"{LOSS}/{term}/{name}"


def of_pair(term: str, other: str) -> str:
    """Return what names a pair of terms in tags.

    >>> of_pair("triplet", "center")
    'triplet~center'
    """
    return f"{term}~{other}"


def of_dataloader(index: int) -> str:
    """Return the suffix of the curves of one of several dataloaders, as Lightning names them."""
    return f"/dataloader_idx_{index}"


def names_dataloader(tag: str) -> bool:
    """Return whether a tag ends as that of one of several dataloaders."""
    return bool(re.search(r"/dataloader_idx_\d+$", tag))


def means(tags: Iterable[str]) -> list[str]:
    """Return the tags of means: those that are not a statistic of another tag, such as `loss/a_std` of `loss/a`.

    >>> means(["loss/a", "loss/a_std", "loss/low_min", "accuracy"])
    ['loss/a', 'loss/low_min', 'accuracy']
    """
    known = list(dict.fromkeys(tags))
    derived = {f"{tag}_{suffix}" for tag in known for suffix in series.suffixes()}
    return [tag for tag in known if tag not in derived]


def terms(tags: Iterable[str]) -> list[str]:
    """Return the names of the terms, without the total, in order of appearance.

    >>> terms(["loss/total", "loss/a", "loss/a/active", "loss/a_std", "weight/a", "accuracy"])
    ['a']
    """
    found = [tag.split("/")[1] for tag in means(tags) if tag.startswith(f"{LOSS}/")]
    return [name for name in dict.fromkeys(found) if name != TOTAL]


def of_terms(tags: Iterable[str]) -> list[str]:
    """Return the tags of the means of terms and of the total.

    >>> of_terms(["loss/total", "loss/a", "loss/a_std", "loss/a/active", "loss/low_min", "accuracy"])
    ['loss/total', 'loss/a', 'loss/low_min']
    """
    return [tag for tag in means(tags) if re.fullmatch(rf"{LOSS}/[^/]+", tag)]


def extras(tags: Iterable[str], term: str) -> list[str]:
    """Return the tags of the further values that a term logs."""
    return [tag for tag in means(tags) if tag.startswith(f"{LOSS}/{term}/")]


def is_progress(tag: str) -> bool:
    """Return whether a tag is a learning rate, a gradient norm or the speed."""
    return tag.split("/", maxsplit=1)[0] in (RATE, NORM, SPEED)


def metrics(tags: Iterable[str]) -> list[str]:
    """Return the tags of metrics: neither curves of a term nor of the progress of training.

    >>> metrics(["loss/a", "lr", "lr/0", "weight/a", "gradient_norm", "final/val/auroc", "precision_at_1"])
    ['precision_at_1']
    """
    kinds = (LOSS, WEIGHTED, SHARE, WEIGHT, VALUES, FINAL, GRADIENT, GRADIENT_SHARE, COSINE)
    return [tag for tag in means(tags) if tag.split("/")[0] not in kinds and not is_progress(tag)]
