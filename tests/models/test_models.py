"""Models provide the heads that losses read, train every parameter, and accept empty batches."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from lossframe.data import BreastCancer, Digits
from lossframe.errors import InputError
from lossframe.models import ConvEmbedder, Mlp

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 40, 32)]
EMBEDDER = {"activity": (), "embeddings": (16,), "features": (16,), "logits": (5,), "probabilities": (5,)}
MLP = {
    "chance": (), "embeddings": (7,), "features": (7,), "logits": (3,), "prediction": (3,), "probabilities": (3,),
    "scores": (), "variance": (3,),
}  # fmt: skip


def embedder(heads: object = (), image_shape: tuple[int, ...] = (1, 8, 8)) -> ConvEmbedder:
    torch.manual_seed(0)
    return ConvEmbedder(image_shape, num_classes=5, embedding_size=16, width=8, heads=heads)


def mlp(heads: object, num_outputs: int = 3, depth: int = 2) -> Mlp:
    torch.manual_seed(0)
    return Mlp(30, num_outputs, hidden=12, depth=depth, embedding_size=7, heads=heads)


def shapes(entries: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(entry.shape) for name, entry in entries.items()}


@pytest.mark.parametrize("size", [0, 1, 4])
@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
def test_embedder_provides_all_its_heads(image_shape: tuple[int, ...], size: int) -> None:
    model = embedder(ConvEmbedder.provides, image_shape)
    entries = model({"image": torch.rand(size, *image_shape)})
    assert entries.keys() == model.provides
    parameters = 5 * (3 if image_shape[0] == 1 else 10), *image_shape[1:]
    wanted = EMBEDDER | {"reconstruction": image_shape, "parameters": parameters}
    assert shapes(entries) == {name: (size, *shape) for name, shape in wanted.items()}
    torch.testing.assert_close(entries["embeddings"].norm(dim=1), torch.ones(size))
    torch.testing.assert_close(entries["probabilities"].sum(dim=1), torch.ones(size))
    assert ((entries["reconstruction"] >= 0) & (entries["reconstruction"] <= 1)).all()


@pytest.mark.parametrize("size", [0, 1, 4])
def test_mlp_provides_all_its_heads(size: int) -> None:
    entries = mlp(Mlp.provides)({"inputs": torch.rand(size, 30)})
    assert entries.keys() == Mlp.provides
    assert shapes(entries) == {name: (size, *shape) for name, shape in MLP.items()}
    assert mlp(["prediction"], num_outputs=1)({"inputs": torch.rand(size, 30)})["prediction"].shape == (size,)


def test_heads_that_nothing_reads_are_not_built() -> None:
    frame = {"image": torch.rand(2, 1, 8, 8), "inputs": torch.rand(2, 30)}
    assert embedder(["labels", "index"])(frame).keys() == {"embeddings", "features"}
    assert mlp(["labels", "scores"])(frame).keys() == {"scores"}
    assert mlp(["scores", "features"])(frame).keys() == {"scores", "features", "embeddings"}
    assert mlp(["scores"], depth=0)(frame)["scores"].shape == (2,)
    assert len(list(embedder().parameters())) == len(list(embedder(["logits"]).parameters())) - 2


def every_choice(heads: frozenset[str]) -> list[tuple[str, ...]]:
    return [chosen for size in range(1, len(heads) + 1) for chosen in combinations(sorted(heads), size)]


def squares(model: nn.Module, frame: dict[str, Tensor], reads: tuple[str, ...]) -> Tensor:
    entries = model(frame)
    targets = {name: torch.linspace(0, 1, entries[name].numel()).view_as(entries[name]) for name in reads}
    return torch.stack([(entries[name] - targets[name]).square().sum() for name in reads]).sum()


@pytest.mark.parametrize(
    ("make", "reads"),
    [(make, reads) for make, kind in ((embedder, ConvEmbedder), (mlp, Mlp)) for reads in every_choice(kind.provides)],
)
def test_every_parameter_gets_a_gradient_for_any_heads_read(make, reads: tuple[str, ...]) -> None:
    model = make(reads)
    frame = {"image": torch.rand(4, 1, 8, 8), "inputs": torch.rand(4, 30)}
    squares(model, frame, reads).backward()
    silent = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert not silent


@pytest.mark.parametrize(
    ("model", "frame"),
    [
        (embedder(ConvEmbedder.provides), {"image": torch.zeros(0, 1, 8, 8)}),
        (mlp(Mlp.provides), {"inputs": torch.zeros(0, 30)}),
    ],
)
def test_empty_batch_gives_zero_gradients(model: nn.Module, frame: dict[str, Tensor]) -> None:
    squares(model, frame, tuple(model.provides)).backward()
    assert all(weights.grad is not None and not weights.grad.any() for weights in model.parameters())


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (Digits(), ConvEmbedder((1, 8, 8), 10, heads=ConvEmbedder.provides)),
        (BreastCancer(), Mlp(30, 2, heads=Mlp.provides)),
    ],
)
def test_batch_split_anywhere_gives_the_same_outputs(data, model: nn.Module) -> None:
    data.setup()
    batch = {name: entry.double() for name, entry in next(iter(data.train_dataloader())).items()}
    whole = model.double()(batch)
    for cut in (0, 1, 13, 40):
        parts = [model({name: entry[rows] for name, entry in batch.items()}) for rows in (slice(cut), slice(cut, None))]
        joined = {name: torch.cat([part[name] for part in parts]) for name in whole}
        torch.testing.assert_close(joined, whole, rtol=1e-10, atol=1e-12)


def test_frame_that_does_not_fit_is_an_input_error() -> None:
    with pytest.raises(InputError, match="ConvEmbedder reads 'image', but the frame holds only 'labels'"):
        embedder()({"labels": torch.zeros(3)})
    with pytest.raises(InputError, match=r"'image' \[N, 1, 8, 8\], but was given \[3, 1, 28, 28\]"):
        embedder()({"image": torch.zeros(3, 1, 28, 28)})
    with pytest.raises(InputError, match=r"Mlp reads 'inputs' \[N, 30\], but was given \[3, 10\]"):
        mlp(["scores"])({"inputs": torch.zeros(3, 10)})
