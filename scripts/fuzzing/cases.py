"""One case of the fuzzer: a loss of the catalogue, a `NativeLoss`, a penalty or an `Objective`, and its reference."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import plain
import torch
from table import TABLE
from torch import Tensor, nn
from torch.nn import functional as F

from fuzzing import drawing
from fuzzing.chance import FLOATS, KINDS, Chance
from lossframe import Loss, NativeLoss, Objective
from lossframe import losses as catalogue
from lossframe.losses.base.reduction import REDUCTIONS

Inputs = dict[str, Tensor]
LOSSES = [loss for loss in TABLE if loss.reads]
TERMS = [loss for loss in LOSSES if TABLE[loss].gradient]


@dataclass
class Case:
    """How to call a criterion, what it should give in float64, and how the call is made."""

    name: str
    call: Callable[[Inputs], Tensor]
    wanted: Callable[[Inputs], Tensor]
    added: Callable[[Inputs], list[Tensor]]
    inputs: Inputs
    refusable: set[str]
    weight: Any = None
    criterion: Loss | None = None
    terms: list[tuple[Loss, Inputs]] = field(default_factory=list)
    mode: str = "grad"
    autocast: bool = False
    of_directions: bool = False

    def growth(self) -> float:
        """Return how much larger than a result its parts may be: values before they are weighted, sums before means."""
        weight = torch.ones(1) if self.weight is None else torch.as_tensor(self.weight).double().reshape(-1)
        number = max([8, *(2 * x.numel() for x in self.inputs.values())])
        return number / min([1.0, *weight[weight > 0].tolist()])

    def title(self) -> str:
        """Describe the case in a line."""
        inputs = ", ".join(f"{name} {_short(x)}" for name, x in self.inputs.items())
        autocast = ", autocast" if self.autocast else ""
        return f"{self.name}, {inputs}, weight {_short(self.weight)}, {self.mode}{autocast}"

    def written(self) -> str:
        """Describe the case in full."""
        return "\n".join([self.title(), *(f"{n} = {x.tolist()}" for n, x in self.inputs.items()), f"{self.weight!r}"])


def _short(x: Any) -> str:
    if not isinstance(x, Tensor):
        return type(x).__name__
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"


def case(seed: int, number: int) -> Case:
    """Draw one case."""
    chance = Chance(seed, number)
    make = chance.choose(*[_of_catalogue] * 16, _native, _native, _penalty, _objective, _objective)
    drawn: Case = make(chance, chance.choose(*FLOATS))
    drawn.mode = chance.choose("grad", "grad", "grad", "no_grad", "inference_mode")
    drawn.autocast = chance.often(0.15)
    drawn.of_directions = any(word in drawn.name for word in ("osine", "NTXent", "PullAway", "SupCon"))
    return drawn


def _of_catalogue(chance: Chance, dtype: torch.dtype) -> Case:
    loss = chance.choose(*LOSSES)
    given = drawing.given(loss, chance, dtype)
    return _of_loss(chance, loss(**given.options, reduction=chance.choose(*REDUCTIONS)), given)


def _of_loss(chance: Chance, criterion: Loss, given: drawing.Given) -> Case:
    shape, only = _shape(criterion, given)
    weight = drawing.weight(chance, shape, criterion.relational, only)
    reference, unreduced = copy.deepcopy(criterion), copy.deepcopy(criterion)
    unreduced.reduction = "none"
    of_weight = _tensor(weight)
    return Case(
        f"{criterion} of {given.options}",
        lambda inputs: criterion(**inputs, weight=weight),
        lambda inputs: plain.reduced(reference, inputs, of_weight),
        lambda inputs: [plain.reduced(unreduced, inputs, of_weight)],
        given.inputs, given.refusable, weight, criterion, [(reference, given.inputs)],
    )  # fmt: skip


def _tensor(weight: Any) -> Tensor | None:
    """Return a weight as a tensor, with all digits that were given."""
    given = isinstance(weight, Tensor) or weight is None
    return weight if given else torch.as_tensor(weight, dtype=torch.float64)


def _shape(criterion: Loss, given: drawing.Given) -> tuple[list[int], bool]:
    """Return the shape of the values, one per sample at least, and whether they know weights of 0 and 1 alone."""
    n = list(next(iter(given.inputs.values())).shape[:1])
    if not n:
        return [], False
    shape = list(plain.values(criterion, given.inputs).values.shape)
    whole = shape[:1] != n or getattr(criterion, "batch", False)
    return (n, True) if whole else (shape, False)


def _first(prediction: Tensor, target: Tensor) -> Tensor:
    return prediction


def _product(prediction: Tensor, target: Tensor) -> Tensor:
    return prediction * target.to(prediction.dtype)


NATIVE: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "L1Loss": (nn.L1Loss(), lambda p, t: (p - t).abs()),
    "MSELoss": (nn.MSELoss(), lambda p, t: (p - t).square()),
    "SmoothL1Loss": (nn.SmoothL1Loss(reduction="none"), lambda p, t: F.smooth_l1_loss(p, t, reduction="none")),
    "first": (_first, _first),
    "product": (_product, _product),
}


def _native(chance: Chance, dtype: torch.dtype) -> Case:
    name, kind = chance.choose(*NATIVE), chance.choose(*KINDS)
    made, formula = NATIVE[name]
    shape = [chance.choose(1, 2, 3, 9), *chance.choose([], [3])]
    inputs = {entry: chance.numbers(shape, dtype, kind) for entry in ("prediction", "target")}
    criterion = NativeLoss(made, reduction=chance.choose(*REDUCTIONS))
    weight = drawing.weight(chance, shape, criterion.relational, False)

    def wanted(inputs: Inputs) -> Tensor:
        return plain.reduce(criterion, inputs, _tensor(weight), lambda kept: plain.Plain(formula(*kept.values())))

    def added(inputs: Inputs) -> list[Tensor]:
        return [formula(*inputs.values())]

    refusable = {"NaN or infinity"} if kind == "special" else set()
    call = lambda inputs: criterion(**inputs, weight=weight)  # noqa: E731
    return Case(
        f"NativeLoss({name}), {criterion.reduction}",
        call,
        wanted,
        added,
        inputs,
        refusable,
        weight,
        criterion,
        [(criterion, {})],
    )


def _penalty(chance: Chance, dtype: torch.dtype) -> Case:
    inputs = {"weight": chance.numbers([2, 3], dtype, chance.choose(*KINDS[:-1]))}
    criterion = catalogue.L1L2Penalty(l1=chance.choose(0.0, 0.1), l2=chance.choose(0.0, 0.5))

    def call(inputs: Inputs) -> Tensor:
        model = nn.Linear(3, 2, bias=False)
        model.weight = nn.Parameter(inputs["weight"].detach())
        return criterion(model)

    def wanted(inputs: Inputs) -> Tensor:
        w = inputs["weight"].double()
        return criterion.l1 * w.abs().sum() + criterion.l2 / 2 * w.square().sum()

    return Case(f"{criterion}", call, wanted, lambda inputs: [], inputs, set())


def _objective(chance: Chance, dtype: torch.dtype) -> Case:
    parts = []
    for term in "ab":
        loss = chance.choose(*TERMS)
        given = drawing.given(loss, chance, dtype)
        parts.append((term, loss(**given.options), given, chance.choose(0.0, 1.0, 0.5, -2.0)))
    objective = Objective(
        {term: loss for term, loss, _, _ in parts},
        {term: weight for term, _, _, weight in parts},
        {term: {name: f"{term}.{name}" for name in given.inputs} for term, _, given, _ in parts},
    )
    reference = copy.deepcopy(objective)

    def added(inputs: Inputs) -> list[Tensor]:
        own = {term: {name: inputs[f"{term}.{name}"] for name in given.inputs} for term, _, given, _ in parts}
        return [weight * plain.reduced(reference.losses[term], own[term]) for term, _, _, weight in parts if weight]

    def wanted(inputs: Inputs) -> Tensor:
        return torch.stack([torch.zeros((), dtype=torch.float64), *added(inputs)]).sum()

    inputs = {f"{term}.{name}": x for term, _, given, _ in parts for name, x in given.inputs.items()}
    refusable = set().union(*(given.refusable for _, _, given, _ in parts))
    name = f"Objective of {[(loss, given.options, weight) for _, loss, given, weight in parts]}"
    terms = [(loss, given.inputs) for _, loss, given, _ in parts]
    return Case(name, objective, wanted, added, inputs, refusable, terms=terms)
