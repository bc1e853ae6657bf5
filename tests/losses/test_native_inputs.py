"""`NativeLoss` reads the inputs of any callable from its signature, and the parts of its result from their names."""

import functools
import warnings
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from pool import Pool
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe import InputError, NativeLoss, Objective, drain

N = 12
Parts = namedtuple("Parts", "total kl")


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0, reduction: str = "mean") -> Tensor:
    """Return a focal loss, as people write it."""
    values = F.cross_entropy(logits, labels, reduction="none")
    values = (1 - torch.exp(-values)) ** gamma * values
    return values if reduction == "none" else values.mean()


def elbo(
    reconstruction: Tensor, image: Tensor, mu: Tensor, logvar: Tensor, kl_weight: float = 0.1
) -> dict[str, Tensor]:
    """Return the losses of a variational autoencoder."""
    error, kl = F.mse_loss(reconstruction, image), (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean() / 2
    return {"loss": error + kl_weight * kl, "reconstruction": error, "kl": kl}


def contrastive(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Return InfoNCE of two views."""
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(z1)))


def scaled(pred: Tensor, target: Tensor, **kwargs: float) -> Tensor:
    """Return a loss that takes whatever it is given."""
    return kwargs.get("scale", 1.0) * (pred - target).abs().mean()


class Perceptual(nn.Module):
    """Compares features of a frozen network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 4).requires_grad_(False)
        self.register_buffer("mean", torch.full((3,), 0.5))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the distance."""
        return F.l1_loss(self.net(input - self.mean), self.net(target - self.mean))


def elementwise(a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """Return a loss whose values are ratios to the batch, which claims to be reducible."""
    values = (a - b).abs() / a.detach().abs().mean()
    return values if reduction == "none" else values.mean()


@pytest.mark.parametrize(
    ("loss", "reads", "optional"),
    [
        (focal, "logits labels gamma", "gamma"),
        (functools.partial(focal, gamma=1.0), "logits labels", ""),
        (elbo, "reconstruction image mu logvar kl_weight", "kl_weight"),
        (scaled, "prediction target", ""),
        (Perceptual(), "prediction target", ""),
        (F.mse_loss, "prediction target", ""),
        (nn.CosineEmbeddingLoss(), "input1 input2 target", ""),
        (nn.TripletMarginLoss(), "anchor positive negative", ""),
        (nn.GaussianNLLLoss(), "prediction target var", ""),
        (nn.CTCLoss(), "log_probs targets input_lengths target_lengths", ""),
        (lambda y_pred, y_true, log_val: y_pred - y_true, "prediction target", ""),
        (lambda embeddings: embeddings.square().mean(), "embeddings", ""),
        (torch.dist, "prediction target", ""),
        (lambda *args: args[0], "prediction target", ""),
    ],
)
def test_names_of_inputs_are_those_of_the_signature(loss: Any, reads: str, optional: str) -> None:
    criterion = NativeLoss(loss)
    assert criterion.reads == tuple(reads.split())
    assert criterion.optional == frozenset(optional.split())


def test_frame_is_read_by_the_names_of_the_callable_or_by_prediction_and_target() -> None:
    torch.manual_seed(0)
    logits, labels, mu = torch.randn(N, 4), torch.randint(0, 4, (N,)), torch.randn(N, 2)
    frame = {"logits": logits, "labels": labels, "y": labels, "image": torch.rand(N, 3), "mu": mu, "logvar": mu / 2}
    terms = {"own": NativeLoss(focal), "ours": NativeLoss(focal), "elbo": NativeLoss(elbo)}
    inputs = {
        "own": {"labels": "y"},
        "ours": {"prediction": "logits", "target": "y"},
        "elbo": {"reconstruction": "image"},
    }
    objective = Objective(terms, inputs=inputs)
    assert objective.reads == {"logits", "y", "image", "mu", "logvar"}
    weighted = objective.terms(frame)
    assert weighted["own"] == weighted["ours"] == focal(logits, labels)
    assert weighted["elbo"] == elbo(frame["image"], frame["image"], mu, mu / 2)["loss"]
    assert NativeLoss(focal)(prediction=logits, target=labels, gamma=1.0) == focal(logits, labels, 1.0)
    with pytest.raises(InputError, match=r"one input under two names"):
        NativeLoss(focal)(prediction=logits, logits=logits, target=labels)
    with pytest.raises(InputError, match=r"reads 'logits', 'labels', but the frame holds only 'x'"):
        Objective({"focal": NativeLoss(focal)})({"x": logits})


@pytest.mark.parametrize(
    ("result", "returns", "value", "recorded"),
    [
        ({"loss": 3.0, "total": 4.0, "kl": 1.0}, None, 3.0, {"total": 4.0, "kl": 1.0}),
        ({"total": 4.0, "kl": 1.0}, None, 4.0, {"kl": 1.0}),
        ({"error": 3.0, "kl": 1.0}, None, 4.0, {"error": 3.0, "kl": 1.0}),
        (Parts(4.0, 1.0), None, 4.0, {"kl": 1.0}),
        ((3.0, {"kl": 1.0}), None, 3.0, {"kl": 1.0}),
        ((3.0, 1.0), ["loss", "kl"], 3.0, {"kl": 1.0}),
        ((3.0, 1.0), ["error", "kl"], 4.0, {"error": 3.0, "kl": 1.0}),
    ],
)
def test_parts_of_a_result_are_recorded_under_their_names(
    result: Any, returns: list[str] | None, value: float, recorded: dict[str, float]
) -> None:
    factor = torch.tensor(1.0)

    def native(x: Tensor) -> Any:
        def grown(part: Any) -> Any:
            return {k: v * factor * x.mean() for k, v in part.items()} if isinstance(part, dict) else part * x.mean()

        if isinstance(result, tuple):
            return type(result)(*map(grown, result)) if hasattr(result, "_asdict") else tuple(map(grown, result))
        return grown(result)

    criterion = NativeLoss(native, returns=returns)
    assert criterion(torch.ones(3)).item() == value
    criterion(2 * torch.ones(1))  # a batch of a third of the samples
    assert criterion.avg == pytest.approx({k: v * 5 / 4 for k, v in ({"loss": value} | recorded).items()})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NativeLoss(lambda x, weight: x), r"parameter 'weight' without a default.*functools.partial"),
        (lambda: NativeLoss(lambda: 1), r"wanted a callable of at least one input"),
        (lambda: NativeLoss(focal, reads="logits"), r"wanted reads as a list of names"),
        (lambda: NativeLoss(focal, reads=["a"]), r"a name for each of the parameters 'logits', 'labels'"),
        (lambda: NativeLoss(focal, reads=["a", "a"]), r"wanted distinct names"),
        (lambda: NativeLoss(contrastive, unreduced=True), r"wants a callable with a `reduction`, found contrastive"),
        (lambda: NativeLoss(lambda x: (x, x))(torch.ones(2)), r"2 values without names; name them by returns="),
        (lambda: NativeLoss(lambda x: (x, x), returns=["a"])(torch.ones(2)), r"returned 2 values, but returns='a'"),
        (lambda: NativeLoss(lambda x: {"a": x, "b": x[:1]})(torch.ones(2)), r"of one shape, or one called 'loss'"),
        (lambda: NativeLoss(scaled)(torch.ones(2), torch.ones(2), scale=1.0), r"reads 'prediction', 'target'; it was"),
    ],
)
def test_callable_that_cannot_be_read_is_an_input_error(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_reads_names_the_inputs_of_a_callable_without_names() -> None:
    x = torch.tensor([1.0, 3.0])
    assert NativeLoss(scaled, reads=["pred", "target", "scale"])(pred=x, target=0 * x, scale=2.0).item() == 4
    assert NativeLoss(lambda *args: sum(args), reads=["a", "b", "c"])(a=x, b=x, c=x).item() == 6
    assert NativeLoss(focal, reads=["scores", "target"]).reads == ("scores", "target")


@pytest.mark.parametrize("loss", [focal, functools.partial(focal, gamma=1.0)])
def test_unreduced_criterion_is_recorded_by_sample(loss: Any) -> None:
    logits, labels = torch.randn(N, 4), torch.randint(0, 4, (N,))
    criterion = NativeLoss(loss, unreduced=True, log_std=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(criterion(logits, labels), loss(logits, labels))
    values = loss(logits, labels, reduction="none")
    assert criterion.moments()["loss"].max == pytest.approx(values.max().item())


def test_unreduced_criterion_whose_values_depend_on_the_batch_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"unreduced=True: wanted a criterion whose values depend on one sample each"):
        NativeLoss(elementwise, unreduced=True)(torch.randn(N), torch.randn(N))


CONFIG = {
    "focal": {"_target_": f"{__name__}.focal", "_partial_": True, "gamma": 1.0},
    "perceptual": {"_target_": f"{__name__}.Perceptual"},
    "scaled": {"_target_": f"{__name__}.scaled", "_partial_": True, "scale": 2.0},
}


@pytest.mark.parametrize("name", CONFIG)
def test_loss_of_a_users_module_is_configured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    torch.manual_seed(0)
    criterion = instantiate({"_target_": "lossframe.losses.NativeLoss", "loss": CONFIG[name], "log_std": False})
    target = torch.randint(0, 3, (N,)) if name == "focal" else torch.rand(N, 3)
    assert criterion(torch.rand(N, 3), target).isfinite()


def on_rank(rank: int, sizes: list[int]) -> list[tuple[float, float, float]]:
    """Return value, recorded KL divergence and gradient of this rank's shard of two losses."""
    rows, found = slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), []
    torch.manual_seed(0)
    x, y = torch.randn(N, 3).double(), torch.randn(N, 3).double()
    for loss, inputs in ((elbo, (x, y, x, y / 3)), (contrastive, (x, y))):
        criterion, gain = NativeLoss(loss), torch.ones((), dtype=torch.float64, requires_grad=True)
        value = criterion(gain * inputs[0][rows], *(each[rows] for each in inputs[1:]))
        (gradient,) = torch.autograd.grad(value, gain)
        recorded = drain({"c": criterion})["c"]
        found.append((value.item(), recorded.get("kl", recorded["loss"]).mean, gradient.item()))
    return found


@pytest.mark.parametrize("sizes", [[9, 3], [12, 0]])
def test_callable_of_any_inputs_gives_on_two_ranks_what_one_gives(pool: Pool, sizes: list[int]) -> None:
    wanted = on_rank(0, [N])
    ranks = pool.run(len(sizes), on_rank, sizes)
    for k, (value, recorded, gradient) in enumerate(wanted):
        assert [each[k][:2] for each in ranks] == [pytest.approx((value, recorded))] * len(sizes)
        assert sum(each[k][2] for each in ranks) / len(sizes) == pytest.approx(gradient)


def mined(rank: int) -> None:
    """Pass indices of this rank's batch."""
    NativeLoss(lambda embeddings, indices_tuple=None: embeddings.mean())(torch.ones(2, 1), (torch.zeros(1).long(),))


def test_indices_of_one_ranks_batch_are_refused_on_two_ranks(pool: Pool) -> None:
    for _, (error, _) in pool.outcomes(2, mined):
        assert "call the miner inside the callable" in str(error)
