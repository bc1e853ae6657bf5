"""Models that hold other modules: those of tensors, of several images a row, and of timm."""

import warnings

import pytest
import torch
from torch import nn

from lossframe.errors import InputError
from lossframe.models import ConvEmbedder, FrameModule, Siamese, TimmEmbedder


class Results(nn.Module):
    """Returns what it was made with, as some modules return tuples and others mappings."""

    def __init__(self, results: object) -> None:
        super().__init__()
        self.results = results

    def forward(self, *_: torch.Tensor) -> object:
        return self.results


def siamese() -> Siamese:
    torch.manual_seed(0)
    return Siamese(ConvEmbedder((1, 8, 8), embedding_size=16, width=8))


def test_module_of_tensors_becomes_a_model_with_named_results() -> None:
    frame = {"image": torch.ones(3, 2), "age": torch.ones(3, 2)}
    assert FrameModule(nn.Bilinear(2, 2, 5), ["image", "age"], "logits")(frame)["logits"].shape == (3, 5)
    assert FrameModule(Results((1, 2)), "image", ["mean", "variance"])(frame) == {"mean": 1, "variance": 2}
    assert FrameModule(Results({"logits": 1, "loss": 2}), "image", "logits")(frame) == {"logits": 1}
    assert FrameModule(nn.Identity(), "image", ["a", "b"]).provides == {"a", "b"}


@pytest.mark.parametrize(
    ("results", "inputs", "message"),
    [
        (1, "pixels", "FrameModule of Results reads 'pixels', but the frame holds only 'image'"),
        ((1, 2), "image", "wanted 'logits', found 2 results"),
        ({"scores": 1}, "image", "wanted the outputs 'logits', found 'scores'"),
    ],
)
def test_module_that_does_not_fit_its_names_is_an_input_error(results: object, inputs: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FrameModule(Results(results), inputs, "logits")({"image": torch.ones(3, 2)})


def test_images_of_a_row_are_embedded_by_one_network() -> None:
    model, images = siamese(), torch.rand(4, 3, 1, 8, 8)
    entries = model({"images": images})
    for number, name in enumerate(("anchor", "positive", "negative")):
        torch.testing.assert_close(entries[name], model.embedder({"image": images[:, number]})["embeddings"])
    pair = model({"images": images[:, :2]})
    torch.testing.assert_close(
        pair["distance"], (entries["anchor"] - entries["positive"]).norm(dim=1), atol=1e-5, rtol=0
    )
    assert pair.keys() | entries.keys() == Siamese.provides


def test_pair_of_one_image_twice_has_a_finite_gradient_and_an_empty_batch_a_zero_one() -> None:
    model = siamese()
    for images in (torch.rand(2, 1, 1, 8, 8).expand(2, 2, 1, 8, 8), torch.zeros(0, 2, 1, 8, 8)):
        model.zero_grad()
        model({"images": images})["distance"].sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(InputError, match=r"Siamese reads 'images' \[N, 2, C, H, W\] or"):
        model({"images": torch.zeros(5, 4, 1, 8, 8)})


def timm_or_skip() -> None:
    try:
        import timm  # noqa: F401
    except Exception as error:  # torchvision's compiled part may not fit torch
        pytest.skip(f"timm cannot be imported: {error}")


def test_network_of_timm_gives_its_heads_and_is_random_if_its_weights_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timm_or_skip()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("timm.create_model", without_weights(__import__("timm").create_model))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = TimmEmbedder("resnet18", (1, 8, 8), 10, 16, pretrained=True, heads=TimmEmbedder.provides)
    assert [str(each.message)[:70] for each in caught] == [
        "model.name=resnet18: the pretrained weights cannot be loaded, so that t"[:70]
    ]
    entries = model({"image": torch.rand(4, 1, 8, 8)})
    assert entries.keys() == TimmEmbedder.provides
    assert entries["logits"].shape == (4, 10)
    with pytest.raises(InputError, match=r"Did you mean 'resnet18'\?"):
        TimmEmbedder("resnet81", (1, 8, 8))


def without_weights(create):
    """Refuse weights, as timm does without a network."""

    def created(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if pretrained:
            raise FileNotFoundError("no network")
        return create(name, **options)

    return created
