"""Every loss of the catalogue on 1, 2 and 3 ranks has the value, gradients and state of one process."""

from typing import Any

import pytest
import torch
from pool import Pool
from table import TABLE, Row, normal
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossframe import Loss
from lossframe import losses as catalogue

SHARDS = {1: [9], 2: [8, 1], 3: [8, 0, 1]}
STEPS = 3


class NewcomerSeparable(Loss):
    """What somebody wrote who has never heard of a rank: one value per sample."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().pow(1.5).sum(1)


class NewcomerRelational(Loss):
    """What somebody wrote who has never heard of a rank: every sample against the batch."""

    relational = True

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - prediction.mean(0)).square().sum(1) * target.std()


def pair(n: int, g: torch.Generator) -> dict[str, Tensor]:
    return {"prediction": normal(n, g, 3), "target": normal(n, g, 3)}


ROWS = {**TABLE, NewcomerSeparable: Row(pair), NewcomerRelational: Row(pair)}


class Shared(nn.Module):
    """A linear model over every floating input, and the loss on what it gives."""

    def __init__(self, loss: Loss, width: dict[str, int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.gain = nn.ParameterDict(
            {
                f"of_{name}": nn.Parameter(1 - 0.2 * torch.rand(n, generator=generator).double())
                for name, n in width.items()
            }
        )
        self.loss = loss
        if isinstance(loss, catalogue.L1L2Penalty):
            loss.pattern = "gain*"
            loss.bind(self)

    def forward(self, inputs: dict[str, Tensor], weight: Any) -> Tensor:
        scaled = {n: t * _broadcast(self.gain[f"of_{n}"], t) for n, t in inputs.items() if f"of_{n}" in self.gain}
        if isinstance(self.loss, catalogue.CategoricalCrossEntropyLoss):  # refuses rows that do not sum to 1
            scaled["probabilities"] = scaled["probabilities"] / scaled["probabilities"].sum(1, keepdim=True)
        return self.loss(**{**inputs, **scaled}, weight=weight)


def _broadcast(gain: Tensor, tensor: Tensor) -> Tensor:
    return gain.reshape(-1, *[1] * (tensor.ndim - 2)) if tensor.ndim > 1 else gain


DIFFERENTIABLE = {
    "prediction", "logits", "probabilities", "embeddings", "features", "scores", "distance", "anchor", "positive",
    "negative", "parameters", "value", "variance", "views",
}  # fmt: skip


def train(rank: int, loss_class: type[Loss], reduction: str, weighted: bool, sizes: list[int], alone: bool) -> Any:
    """Take `STEPS` steps on this rank's shards of fixed batches, or on the whole of them if `alone`."""
    row = ROWS[loss_class]
    generator = torch.Generator().manual_seed(3)
    batches = [row.inputs(sum(sizes), generator) for _ in range(STEPS)]
    width = {name: t.shape[1] if t.ndim > 1 else 1 for name, t in batches[0].items() if name in DIFFERENTIABLE}
    model: nn.Module = Shared(row.make(loss_class, reduction=reduction), width or {"nothing": 2})
    loss = model.loss
    if not alone:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    mine = slice(None) if alone else slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    seen = []
    for batch in batches:
        weight = _weight(sum(sizes), generator, row.per_sample) if weighted else None
        inputs = {n: t[mine].clone().requires_grad_(n in width) for n, t in batch.items()}
        optimizer.zero_grad()
        value = model(inputs, None if weight is None else weight[mine])
        if value.requires_grad:
            value.backward()
            optimizer.step()
        seen.append((value.detach(), {name: inputs[name].grad for name in width}))
    state = {name: t for name, t in loss.state_dict().items() if isinstance(t, Tensor)}
    return seen, state, [p.detach().clone() for p in model.parameters()]


def _weight(n: int, generator: torch.Generator, per_sample: bool) -> Tensor:
    weight = torch.randint(0, 3, (n,), generator=generator).double()
    return weight if per_sample else weight.clamp(max=1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


DIVIDED_BY_ALL = (catalogue.MSELoss, catalogue.CrossEntropyLoss, catalogue.SupConLoss)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("loss_class", ROWS, ids=lambda loss_class: loss_class.__name__)
def test_ranks_give_value_gradient_and_state_of_one_process(pool: Pool, loss_class: type[Loss], ranks: int) -> None:
    cases = [("mean", False), ("mean", True), ("sum", False)]
    cases += [("weighted_mean", True)] if ROWS[loss_class].per_sample else []
    cases += [("element_mean", True)] if loss_class in DIVIDED_BY_ALL else []
    for reduction, weighted in cases:
        if weighted and not loss_class.reads:
            continue
        arguments = (loss_class, reduction, weighted, SHARDS[ranks])
        expected, expected_state, expected_weights = train(0, *arguments, True)
        results = pool.run(ranks, train, *arguments, False)
        for step, (value, gradients) in enumerate(expected):
            for seen, _, _ in results:
                close(seen[step][0], value)
            for name, gradient in gradients.items():
                shards = [seen[step][1][name] for seen, _, _ in results]
                if gradient is None:
                    assert all(shard is None for shard in shards)
                else:  # data parallelism averages: a rank's own gradient is that of the sum times the number of ranks
                    close(torch.cat(shards) / ranks, gradient)
        for _, state, weights in results:
            for name, tensor in expected_state.items():
                close(state[name], tensor)
                assert torch.equal(state[name], results[0][1][name]), "ranks differ"
            for found, wanted in zip(weights, expected_weights, strict=True):
                close(found, wanted)


def test_every_loss_of_the_catalogue_has_a_row() -> None:
    classes = {getattr(catalogue, name) for name in catalogue.__all__} - {*catalogue.WRAPPERS}
    missing = sorted(loss.__name__ for loss in classes - set(TABLE))
    assert not missing, f"tests/table.py has no row for {missing}"
