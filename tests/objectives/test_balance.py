"""Balancing of terms: each method follows its paper, and is the same on any number of ranks and after a resume."""

import pytest
import torch
import torch.distributed as dist
from methods import METHODS, PER_EPOCH, SAMPLES, STEPS, Net, batch, method, objective
from papers import OF_TWO, REFERENCES
from pool import Pool
from torch import Tensor


def gradients_at(values: dict[str, Tensor], place: list[Tensor]) -> Tensor:
    """Return the gradients of terms at tensors, by plain autograd."""
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(v, place, retain_graph=True, materialize_grads=True)])
            for v in values.values()
        ]
    )


@pytest.mark.parametrize("name", METHODS)
def test_each_method_gives_the_weights_of_its_paper(name: str) -> None:
    net, reference = Net(), REFERENCES[name]()
    criterion = objective(method(name), 2 if name in OF_TWO else 3, balance_at="features")
    optimizer = torch.optim.SGD([*net.parameters(), *criterion.parameters()], lr=0.1)
    for step in range(STEPS):
        frame = net(batch(step))
        values = {
            n: loss(**{p: frame[e] for p, e in criterion.inputs[n].items()}) for n, loss in criterion.named_losses()
        }
        criterion.reset_avg()
        epoch = step // PER_EPOCH
        wanted = reference(
            torch.stack(list(values.values())).detach(), gradients_at(values, [frame["features"]]), step, epoch
        )
        criterion.advance(step, step / PER_EPOCH)
        optimizer.zero_grad()
        criterion(frame).backward()
        found = torch.tensor([criterion.moments()[f"weight/{n}"].mean for n in values], dtype=torch.float64)
        assert torch.allclose(found, wanted.double(), rtol=1e-6, atol=1e-6), (step, found - wanted)
        optimizer.step()


class Training:
    """Trains as data parallelism does, on a rank's shard; can be saved and go on in another object."""

    def __init__(self, name: str, place: str, mine: slice, ranks: int) -> None:
        self.mine, self.ranks = mine, ranks
        self.net, self.criterion = Net(), objective(method(name), balance_at=place)
        self.criterion.bind(self.net)
        trained = [*self.net.parameters(), *self.criterion.parameters()]
        self.optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.5)
        self.parts = self.net, self.criterion, self.optimizer

    def total(self, step: int) -> Tensor:
        result: Tensor = self.criterion(self.net({key: rows[self.mine] for key, rows in batch(step).items()}))
        return result

    def step(self, step: int) -> list[float]:
        """Take one step; return total and weights."""
        self.criterion.reset_avg()
        self.criterion.advance(step, step / PER_EPOCH)
        self.optimizer.zero_grad()
        total = self.total(step)
        total.backward()
        for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
            if self.ranks > 1:
                dist.all_reduce(parameter.grad.div_(self.ranks))
        self.optimizer.step()
        moments = self.criterion.moments()
        return [total.item(), *(moments[f"weight/{n}"].mean for n in self.criterion.losses)]


FEW = 3 * PER_EPOCH


def trained(rank: int, name: str, place: str, shares: list[int], resume_at: int = FEW) -> list[list[float]]:
    """Return total and weights of each step, the total of an evaluation, and the parameters after a training."""
    setup = name, place, slice(sum(shares[:rank]), sum(shares[: rank + 1])), len(shares)
    training, series = Training(*setup), []
    for step in range(FEW):
        if step == resume_at:
            saved, training = training.parts, Training(*setup)
            for part, of in zip(training.parts, saved, strict=True):
                part.load_state_dict(of.state_dict())
        series.append(training.step(step))
    training.criterion.eval()
    parameters = torch.cat([p.detach().flatten() for p in training.net.parameters()])
    return [*series, [training.total(FEW).item()], parameters.tolist()]


def of_all(rank: int, names: list[str], place: str, shares: list[int]) -> dict[str, list[list[float]]]:
    return {name: trained(rank, name, place, shares) for name in names}


@pytest.mark.parametrize(
    ("place", "names", "uneven"),
    [
        ("features", METHODS, [[4, 0, 5]]),
        ("parameters", ["gradnorm", "upgrad", "uncertainty"], [[9, 0], [8, 1]]),
    ],
)
def test_each_method_is_the_same_on_any_number_of_ranks(
    pool: Pool, place: str, names: list[str], uneven: list[list[int]]
) -> None:
    wanted = of_all(0, names, place, [SAMPLES])
    for shares in uneven:
        for found in pool.run(len(shares), of_all, names, place, shares):
            for name in names:
                for one, other in zip(wanted[name], found[name], strict=True):
                    assert one == pytest.approx(other, rel=1e-8, abs=1e-10), (name, shares)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_resumes_exactly(name: str) -> None:
    assert trained(0, name, "features", [SAMPLES], resume_at=2 * PER_EPOCH) == trained(0, name, "features", [SAMPLES])
