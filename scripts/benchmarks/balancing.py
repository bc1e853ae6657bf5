"""What balancing terms adds to a step of training: each method, at an entry of the frame and at the parameters.

A case is one step of a small convolutional network on 64 images with so many terms: cross entropy, triplet and center,
repeated.
"""

from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch

from benchmarks.cases import Case, Contestant, Figure, Step, at_sizes

BATCH = 64
SCHEDULED = "schedule"


def step_of(size: int, device: torch.device, name: str, place: str) -> Step:
    """Prepare a step of training with `size` terms and one method."""
    from lossframe.models import ConvEmbedder

    torch.manual_seed(0)
    model = ConvEmbedder((1, 28, 28), 10, heads=["logits"]).to(device)
    batch = {"image": torch.rand(BATCH, 1, 28, 28, device=device), "labels": torch.arange(BATCH, device=device) % 10}
    objective = _objective(size, name, place).to(device)
    objective.bind(model)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-4)
    done = [0]

    def step() -> object:
        done[0] += 1
        objective.advance(done[0], done[0] / 100)
        optimizer.zero_grad()
        total = objective({**batch, **model(batch)})
        total.backward()
        optimizer.step()
        return total

    return step


def _objective(size: int, name: str, place: str) -> Any:
    from lossframe import losses
    from lossframe.objectives.objective import Objective

    makers = [
        lambda: (losses.CrossEntropyLoss(), {"target": "labels"}),
        lambda: (losses.BatchAllTripletLoss(), {}),
        lambda: (losses.CenterLoss(10, 64), {}),
    ]
    made = {f"term{k}": makers[k % 3]() for k in range(size)}
    return Objective(
        {term: loss for term, (loss, _) in made.items()},
        inputs={term: wired for term, (_, wired) in made.items()},
        weighting=None if name in ("fixed", SCHEDULED) else _method(name),
        schedule={"term0": {"kind": "linear", "start": 0.5, "end": 1, "until": 5}} if name == SCHEDULED else None,
        balance_at=place,
    )


def _method(name: str) -> Callable[..., Any]:
    from lossframe import configs

    content = {key: 1 if value == "${seed}" else value for key, value in configs.read(f"balance/{name}").items()}
    return partial(resolve_name(content.pop("_target_")), **content)


def cases(quick: bool) -> list[Case]:
    """Return the suite."""
    from lossframe import configs

    names = ["fixed", SCHEDULED, *(name for name in configs.choices("balance") if name != "fixed")]
    sizes = [3] if quick else [3, 6]
    return [
        case
        for place in ("features", "parameters")
        for case in at_sizes(
            f"a step, balanced at {place}", sizes,
            *[Contestant(name, partial(step_of, name=name, place=place)) for name in names],
        )
    ]  # fmt: skip


def summary(figures: list[Figure]) -> str:
    """Return the time of a step over that with fixed weights."""
    fixed = {(f.case, f.size): f.seconds for f in figures if f.contestant == "fixed"}
    lines = ["| method | terms | place | step over fixed weights |", "|---|---|---|---|"]
    for figure in figures:
        base = fixed.get((figure.case, figure.size))
        if base and figure.seconds and figure.contestant != "fixed":
            place = figure.case.rpartition(" ")[2]
            lines.append(f"| {figure.contestant} | {figure.size} | {place} | {figure.seconds / base:.2f} |")
    return "\n".join(lines)
