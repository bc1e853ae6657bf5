"""Finds where values stop being finite: term or parameter, samples, rank and step; raises, skips or warns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.callbacks.monitor.discovery import Source, keep_samples
from lossframe.callbacks.monitor.findings import Evidence, Finding, culprits, first_of
from lossframe.callbacks.monitor.gradient_norms import GradientNorms, Step
from lossframe.callbacks.monitor.staging import Staging
from lossframe.errors import InputError, NonFiniteError, names, nearest
from lossframe.loggers import tags
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.per_sample import PerSample
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.snapshot import Named, Parts, merged, of_ranks

Policy = Literal["raise", "skip", "warn", "off"]

_KEPT_BATCHES = 4096


class Observation(NamedTuple):
    """Describes what one rank has seen since the last reading: its first finding, and the values of skipped steps."""

    first: Finding | None
    skipped: Parts


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
    per step; "off" checks nothing. All values of a skipped step are left out of the statistics. A skipped batch has
    still updated what the forward pass updates, such as the statistics of a normalisation layer.
    """

    def __init__(self, policy: str) -> None:
        known = get_args(Policy)
        if policy not in known:
            hint = nearest(policy, known)
            raise InputError(f"LossMonitor: nonfinite={policy!r} is unknown; it is one of {names(known)}.{hint}")
        self.policy = policy
        self.skipped = 0
        self._gradients = GradientNorms()
        self._staging = Staging(policy == "skip")
        self._decided = 0  # number of kept batches, with the current one, whose step was taken or skipped
        self._losses: dict[str, Loss] = {}
        self._samples: list[PerSample] = []
        self._kept: list[Kept] = []
        self._module = nn.Module()
        self._steps: list[Step] = []

    def source(self) -> dict[str, Source]:
        """Return the recorder of gradient norms as a source, by name."""
        return {GRADIENT: Source(self._gradients.recorder, lambda name: tags.NORM)}

    def watch(self, module: nn.Module, losses: Mapping[str, Loss], recorders: Mapping[str, Recorder]) -> None:
        """Make a module's losses keep their values by sample, and name its parameters in messages.

        A skipped step leaves out the values of all `recorders`, among them that of `source`.
        """
        self._module = module
        self._staging.watch(recorders)
        self._losses = dict(losses) if self.policy != "off" else {}
        keep_samples(self._losses)
        self._samples = [loss.samples for loss in self._losses.values() if loss.samples is not None]

    def train(self, training: bool) -> None:
        """Follow the start and the end of training and of its evaluations: only values of training can be skipped."""
        self._staging.switch(training)

    def settle(self) -> None:
        """Count values that wait for an optimiser's step which does not come, as at the end of an epoch."""
        self._staging.join()
        self._decided = len(self._kept)

    def skips(self, parameters: Iterable[nn.Parameter], scaled: bool = False) -> bool:
        """Compute the norms of a step's gradients, and return whether to skip the step, equally on all ranks.

        A `scaled` step is never skipped here, because the gradient scaler skips those that overflow: only its values
        are left out, if they are not finite themselves.
        """
        step = self._gradients.note(parameters, scaled)
        if step is not None and not scaled and self.policy != "off":
            self._steps.append(step)
        if self.policy != "skip":
            return False
        self._gradients.fold()
        skipped = distributed.anywhere(self._is_bad())
        self.skipped += skipped
        if skipped:
            self._staging.drop()
        else:
            self._staging.join()
        self._decided = len(self._kept) + 1
        return skipped and not scaled

    def _is_bad(self) -> Tensor:
        """Return whether a value or a gradient since the last step is not finite, as a scalar on its device."""
        looked_at = [tensor for seen in self._samples for tensor in (seen.inputs, seen.values)]
        looked_at += [tensor for batch in self._kept[self._decided :] for tensor in batch.samples]
        looked_at += [step.norms for step in self._steps]
        sums = [tensor.sum().float() for tensor in looked_at if tensor is not None]
        return ~torch.stack(sums).isfinite().all() if sums else torch.tensor(False)

    def keep(self, batch: int, ids: Any) -> None:
        """Keep references to the values of the batch that has just ended, until `take`."""
        if len(self._kept) < _KEPT_BATCHES and (self._samples or self._steps):  # only the first batches matter
            samples = [tensor for seen in self._samples for tensor in (seen.inputs, seen.values)]
            self._kept.append(Kept(batch, ids, samples, self._steps))
        self._steps = []

    def take(self) -> list[Kept]:
        """Remove and return the references since the last call, and record their gradient norms.

        References to batches whose values wait for a step stay.
        """
        self._gradients.fold()
        number = self._decided if self._staging.on else len(self._kept)
        kept, self._kept = self._kept[:number], self._kept[number:]
        self._decided = max(0, self._decided - number)
        return kept

    def forget(self) -> None:
        """Drop what was seen so far."""
        self._gradients.fold()
        self._staging.dropped()
        self._kept, self._steps, self._decided = [], [], 0

    def observation(self, seen: Named, kept: list[Kept]) -> Observation:
        """Return what this rank has seen; waits for the device only if something was not finite."""
        skipped = self._staging.dropped()
        return Observation(self._finding(merged([seen, of_ranks([skipped])]), kept), skipped)

    def _finding(self, seen: Named, kept: list[Kept]) -> Finding | None:
        """Return the first batch of this rank that was not finite, if there is one."""
        terms = [term for term in self._losses if any(moments.nonfinite for moments in seen.get(term, {}).values())]
        if not terms and not any(moments.nonfinite for moments in seen.get(GRADIENT, {}).values()):
            return None
        for batch in kept:
            samples = zip(self._losses, batch.samples[::2], batch.samples[1::2], strict=True)
            found = [culprits(term, inputs, values, batch.ids) for term, inputs, values in samples if term in terms]
            named = [each for each in found if each]
            if named:
                evidence = min(kind for kind, _ in named)
                what = " and ".join(text for kind, text in named if kind == evidence)
                return Finding(batch.batch, evidence, distributed.rank(), what)
            if bad := [parameter for step in batch.steps for parameter in _not_finite(step)]:
                what = f"the gradient of {first_of(self._names(bad))}"
                return Finding(batch.batch, Evidence.GRADIENT, distributed.rank(), what)
        return None

    def _names(self, parameters: Sequence[nn.Parameter]) -> list[str]:
        """Return the names of parameters, without repetition."""
        known = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return list(dict.fromkeys(known.get(id(parameter), "a parameter of no name") for parameter in parameters))

    def judge(self, stage: str, seen: Named, ranks: Sequence[Observation]) -> str | None:
        """Raise a `NonFiniteError` or return a warning, as the policy says, if values of any rank are not finite."""
        seen = merged([seen, of_ranks([rank.skipped for rank in ranks])])
        bad = {term: named for term, named in seen.items() if any(moments.nonfinite for moments in named.values())}
        if not bad or self.policy == "off":
            return None
        described = [f"{t} ({type(loss).__name__}): {_count(bad[t])}" for t, loss in self._losses.items() if t in bad]
        first = min((rank.first for rank in ranks if rank.first is not None), default=None)
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


def _not_finite(step: Step) -> list[nn.Parameter]:
    """Return the parameters whose gradient was not finite; waits for the device."""
    return [
        parameter
        for parameter, norm in zip(step.parameters, step.norms.tolist(), strict=True)
        if not math.isfinite(norm)
    ]


def _count(named: Mapping[str, Any]) -> str:
    """Count the non-finite values under the name that has most of them."""
    worst = max(named.values(), key=lambda moments: moments.nonfinite)
    return f"{worst.nonfinite:.0f} of {worst.count:.0f} values"
