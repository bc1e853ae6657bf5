"""Finds where values stop being finite: term or parameter, samples, rank and step; raises, skips or warns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.callbacks.monitor.discovery import Source, keep_samples
from lossframe.callbacks.monitor.gradient_norms import GradientNorms, Step
from lossframe.errors import InputError, NonFiniteError, names, nearest
from lossframe.loggers import tags
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.per_sample import PerSample
from lossframe.statistics.snapshot import Named

Policy = Literal["raise", "skip", "warn", "off"]

_KEPT_BATCHES = 4096
_NAMED_SAMPLES = 8


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


class Kept(NamedTuple):
    """References to per-sample values and gradient norms of one batch, with its number and its samples' ids."""

    batch: int
    ids: Any
    samples: list[Tensor | None]
    """Inputs and values of each loss by sample, alternating, as in `PerSample`; one flat list keeps this cheap."""
    steps: list[Step]


class Guard:
    """Keeps references to the values of each batch, finds non-finite ones among them, and applies a policy to them.

    `policy`: "raise" raises a `NonFiniteError` on all ranks at the next drain; "warn" warns there, and training
    continues; "skip" skips the optimiser's step on all ranks, which waits for the device and takes one small collective
    per step; "off" checks nothing. A skipped batch has still updated what the forward pass updates, such as the
    statistics of a normalisation layer.
    """

    def __init__(self, policy: str) -> None:
        known = get_args(Policy)
        if policy not in known:
            hint = nearest(policy, known)
            raise InputError(f"LossMonitor: nonfinite={policy!r} is unknown; it is one of {names(known)}.{hint}")
        self.policy = policy
        self.skipped = 0
        self._gradients = GradientNorms()
        self._losses: dict[str, Loss] = {}
        self._samples: list[PerSample] = []
        self._kept: list[Kept] = []
        self._module = nn.Module()
        self._steps: list[Step] = []

    def source(self) -> dict[str, Source]:
        """Return the recorder of gradient norms as a source, by name."""
        return {GRADIENT: Source(self._gradients.recorder, lambda name: tags.NORM)}

    def watch(self, module: nn.Module, losses: Mapping[str, Loss]) -> None:
        """Make a module's losses keep their values by sample, and name its parameters in messages."""
        self._module = module
        self._losses = dict(losses) if self.policy != "off" else {}
        keep_samples(self._losses)
        self._samples = [loss.samples for loss in self._losses.values() if loss.samples is not None]

    def skips(self, parameters: Iterable[nn.Parameter], scaled: bool = False) -> bool:
        """Compute the norms of a step's gradients, and return whether to skip the step, equally on all ranks.

        A `scaled` step is never skipped here: the gradient scaler skips those that overflow.
        """
        step = self._gradients.note(parameters, scaled)
        if scaled or self.policy == "off":
            return False
        if step is not None:
            self._steps.append(step)
        if self.policy != "skip":
            return False
        self._gradients.fold()
        looked_at = [tensor for seen in self._samples for tensor in (seen.inputs, seen.values)]
        looked_at += [step.norms for step in self._steps]
        sums = [tensor.sum().float() for tensor in looked_at if tensor is not None]
        skipped = distributed.anywhere(~torch.stack(sums).isfinite().all() if sums else torch.tensor(False))
        self.skipped += skipped
        return skipped

    def keep(self, batch: int, ids: Any) -> None:
        """Keep references to the values of the batch that has just ended, until `take`."""
        if len(self._kept) < _KEPT_BATCHES and (self._samples or self._steps):  # only the first batches matter
            samples = [tensor for seen in self._samples for tensor in (seen.inputs, seen.values)]
            self._kept.append(Kept(batch, ids, samples, self._steps))
        self._steps = []

    def take(self) -> list[Kept]:
        """Remove and return the references since the last call, and record their gradient norms."""
        self._gradients.fold()
        kept, self._kept = self._kept, []
        return kept

    def finding(self, seen: Named, kept: list[Kept]) -> Finding | None:
        """Return the first batch of this rank that was not finite; waits for the device only if there is one."""
        terms = [term for term in self._losses if any(moments.nonfinite for moments in seen[term].values())]
        if not terms and not any(moments.nonfinite for moments in seen.get(GRADIENT, {}).values()):
            return None
        for batch in kept:
            samples = zip(self._losses, batch.samples[::2], batch.samples[1::2], strict=True)
            culprits = [_culprits(term, inputs, values, batch.ids) for term, inputs, values in samples if term in terms]
            named = [found for found in culprits if found]
            if named:
                evidence = min(kind for kind, _ in named)
                what = " and ".join(text for kind, text in named if kind == evidence)
                return Finding(batch.batch, evidence, distributed.rank(), what)
            if bad := [parameter for step in batch.steps for parameter in _not_finite(step)]:
                what = f"the gradient of {_first(self._names(bad))}"
                return Finding(batch.batch, Evidence.GRADIENT, distributed.rank(), what)
        return None

    def _names(self, parameters: Sequence[nn.Parameter]) -> list[str]:
        """Return the names of parameters, without repetition."""
        known = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return list(dict.fromkeys(known.get(id(parameter), "a parameter of no name") for parameter in parameters))

    def judge(self, stage: str, seen: Named, findings: Iterable[Finding | None]) -> str | None:
        """Raise a `NonFiniteError` or return a warning, as the policy says, if values of any rank are not finite."""
        bad = {term: named for term, named in seen.items() if any(moments.nonfinite for moments in named.values())}
        if not bad or self.policy == "off":
            return None
        described = [f"{t} ({type(loss).__name__}): {_count(bad[t])}" for t, loss in self._losses.items() if t in bad]
        first = min((finding for finding in findings if finding is not None), default=None)
        located = f" First: {first}." if first else ""
        skipped = f" {self.skipped} batches were skipped so far." if self.policy == "skip" else ""
        message = (
            f"{stage}: {'; '.join(described) or 'gradients'} were not finite since the last reading.{located}"
            f"{skipped} Look at these samples, the learning rate and the precision"
        )
        if self.policy == "raise":
            raise NonFiniteError(message)
        return message


GRADIENT = "/gradient"
"""Name of the gradient norms among the terms, which no term can have."""


def _culprits(term: str, inputs: Tensor | None, values: Tensor | None, ids: Any) -> tuple[Evidence, str] | None:
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
            return evidence, f"{term!r} at rows {_first(rows)} of the batch"
        return evidence, f"{term!r} of samples {_first([_plain(ids[row]) for row in rows])}"
    return None


def _not_finite(step: Step) -> list[nn.Parameter]:
    """Return the parameters whose gradient was not finite; waits for the device."""
    return [
        parameter
        for parameter, norm in zip(step.parameters, step.norms.tolist(), strict=True)
        if not math.isfinite(norm)
    ]


def _first(items: list[Any]) -> str:
    """List the first items, and the number of the others."""
    more = f" and {len(items) - _NAMED_SAMPLES} more" if len(items) > _NAMED_SAMPLES else ""
    return ", ".join(map(str, items[:_NAMED_SAMPLES])) + more


def _plain(identifier: Any) -> Any:
    return identifier.item() if isinstance(identifier, Tensor) else identifier


def _count(named: Mapping[str, Any]) -> str:
    """Count the non-finite values under the name that has most of them."""
    worst = max(named.values(), key=lambda moments: moments.nonfinite)
    return f"{worst.nonfinite:.0f} of {worst.count:.0f} values"
