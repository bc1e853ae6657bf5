"""Names the samples whose values or inputs are not finite."""

from enum import IntEnum
from typing import Any, NamedTuple

from torch import Tensor

_NAMED = 8


class Evidence(IntEnum):
    """Ranks places of a non-finite number by how precisely they name the cause, the most precise first.

    A sample's own input or value is best, then a value that depends on other samples, then a gradient.
    """

    OWN = 0
    RELATED = 1
    GRADIENT = 2


class Finding(NamedTuple):
    """Describes the first batch on one rank that had a value or a gradient that was not finite."""

    batch: int
    evidence: Evidence
    rank: int
    what: str

    def __str__(self) -> str:
        return f"{self.what}, at step {self.batch} on rank {self.rank}"


def culprits(term: str, inputs: Tensor | None, values: Tensor | None, ids: Any) -> tuple[Evidence, str] | None:
    """Return the kind of evidence for a term's non-finite values, and the text that names the samples.

    Inputs are examined before values, because relational losses spread one NaN over the whole batch.
    """
    for evidence, seen in ((Evidence.OWN, inputs), (Evidence.OWN if inputs is None else Evidence.RELATED, values)):
        if seen is None or bool(seen.isfinite().all()):
            continue
        if not seen.ndim:
            return evidence, f"the value of {term!r}"
        rows = (~seen.isfinite()).nonzero().flatten().tolist()
        if ids is None or len(ids) != len(seen):
            return evidence, f"{term!r} at rows {first_of(rows)} of the batch"
        return evidence, f"{term!r} of samples {first_of([_plain(ids[row]) for row in rows])}"
    return None


def first_of(items: list[Any]) -> str:
    """List the first items, and the number of the others."""
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(map(str, items[:_NAMED])) + more


def _plain(identifier: Any) -> Any:
    return identifier.item() if isinstance(identifier, Tensor) else identifier
