"""Recording and logging terms of a loss: ours, torchmetrics, `self.log`, `.item()`, and `.cpu().numpy()` as in babilim.

"recording" is 50 steps of so many terms with 256 values each, read once; "in a Trainer" 50 small steps of a training;
"two ranks" ten drains, or syncs, of so many terms over gloo.
"""

import functools
import operator
import statistics
import tempfile
from functools import partial

import numpy as np
import torch

from benchmarks.cases import Case, Contestant, Figure, Step, at_sizes
from benchmarks.pair import on_two_ranks
from benchmarks.trainings import MAKERS, OTHERS, PARTS, training
from benchmarks.trainings import STEPS as TRAINED

BATCH, STEPS = 256, 50
AS_MANY = {"mean": "MeanMetric", "min": "MinMetric", "max": "MaxMetric", "sum": "SumMetric", "squares": "SumMetric"}
"""The torchmetrics that hold mean, std, min and max of values."""


def ours(size: int, device: torch.device, counted: tuple[str, ...]) -> Step:
    """Prepare recording and draining."""
    from lossframe import drain
    from lossframe.statistics.recorder import Recorder

    values = torch.rand(BATCH, device=device)
    recorders = {f"term{k}": Recorder({"log_quantiles": bool(counted)}) for k in range(size)}

    def step() -> object:
        for _ in range(STEPS):
            for recorder in recorders.values():
                recorder.accumulate("loss", values)
        return drain(recorders)

    return step


def torchmetrics(size: int, device: torch.device) -> Step:
    """Prepare the same statistics of torchmetrics' aggregators, in their fastest setting."""
    from torchmetrics import aggregation

    values = torch.rand(BATCH, device=device)
    terms = [{k: getattr(aggregation, name)("disable").to(device) for k, name in AS_MANY.items()} for _ in range(size)]

    def step() -> object:
        for _ in range(STEPS):
            for metrics in terms:
                for name, metric in metrics.items():
                    metric.update(values.square() if name == "squares" else values)
        read = [{name: metric.compute().item() for name, metric in metrics.items()} for metrics in terms]
        for metrics in terms:
            for metric in metrics.values():
                metric.reset()
        return read

    return step


def items(size: int, device: torch.device) -> Step:
    """Prepare reading each number at each step."""
    values = torch.rand(BATCH, device=device)

    def numbers() -> list[float]:
        return [value.item() for value in (values.mean(), values.std(correction=0), values.amin(), values.amax())]

    return lambda: [numbers() for _ in range(STEPS * size)]


def babilim(size: int, device: torch.device) -> Step:
    """Prepare copying each mean to the host at each step, and numpy's statistics at the end."""
    values = torch.rand(BATCH, device=device)

    def step() -> object:
        terms = [[values.mean().detach().cpu().numpy() for _ in range(STEPS)] for _ in range(size)]
        return [(np.mean(term), np.std(term), np.min(term), np.max(term)) for term in terms]

    return step


def cases(quick: bool) -> list[Case]:
    """Return the suite."""
    sizes = [1, 10] if quick else [1, 10, 30]
    recording = [
        Contestant("lossframe", partial(ours, counted=())),
        Contestant("lossframe with quantiles", partial(ours, counted=("loss",))),
        Contestant("torchmetrics", torchmetrics),
        Contestant(".item()", items),
        Contestant("babilim's means", babilim),
    ]
    trained, others, parts = (
        [Contestant(kind, partial(training, kind=kind, folder=_folder().name)) for kind in kinds]
        for kinds in (MAKERS, OTHERS, PARTS)
    )
    ranked = [Contestant(name, partial(on_two_ranks, name=name)) for name in ("lossframe", "torchmetrics")]
    return [
        *at_sizes("recording", sizes, *recording),
        *at_sizes("in a Trainer", sizes, *trained, seconds=10.0 if quick else 60.0),
        *at_sizes("in a Trainer, with more", sizes, *others),
        *at_sizes("parts in a Trainer", [10], *parts),
        *at_sizes("two ranks", sizes, *ranked),
    ]


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for what trainings log, which goes with this process."""
    return tempfile.TemporaryDirectory()


def summary(figures: list[Figure]) -> str:
    """Return what recording costs a term and step, and what logging adds to training."""
    lines = []
    for figure in figures:
        if figure.case == "recording" and figure.seconds is not None:
            cost = figure.seconds / STEPS / figure.size * 1e6
            lines.append(f"recording, {figure.size} terms, {figure.contestant}: {cost:.1f} us a term and step")
    bare = {(f.case, f.size): f.rounds for f in figures if f.contestant == "nothing logged"}
    for figure in figures:
        nothing = bare.get((figure.case, figure.size))
        if figure.rounds and nothing and figure.contestant != "nothing logged":
            added = [1e3 * difference / TRAINED for difference in map(operator.sub, figure.rounds, nothing)]
            low, middle, high = statistics.quantiles(added)
            error = 0.93 * (high - low) / len(added) ** 0.5  # of the median, were the rounds normal
            what = f"{figure.case}, {figure.size} terms, {figure.contestant}"
            lines.append(f"{what}: {middle:+.3f} ms a step, standard error {error:.3f}")
    return "\n".join(f"- {line}" for line in lines)
