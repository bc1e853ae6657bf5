"""A model of two tasks gives the output of each and both together, from features that may depend on places."""

import pytest
import torch
from torch import nn

from lossframe.errors import InputError
from lossframe.models import ConvEmbedder, Mlp, TwoHeads


@pytest.mark.parametrize("size", [0, 1, 4])
@pytest.mark.parametrize(("count", "shape"), [(10, (10,)), (1, ())])
def test_each_task_has_an_output_and_both_are_stacked(size: int, count: int, shape: tuple[int, ...]) -> None:
    model = TwoHeads(Mlp(30, 1, embedding_size=7, heads=["features"]), 7, count)
    entries = model({"inputs": torch.rand(size, 30)})
    assert {name: tuple(entry.shape) for name, entry in entries.items()} == {
        "features": (size, 7), "first": (size, *shape), "second": (size, *shape), "both": (size, *shape, 2),
    }  # fmt: skip
    assert entries.keys() == model.provides
    assert torch.equal(entries["both"][..., 1], entries["second"])


def test_trunk_without_features_is_an_input_error() -> None:
    with pytest.raises(InputError, match="wants a trunk that gives 'features', but Identity gave 'inputs'"):
        TwoHeads(nn.Identity(), 7, 1)({"inputs": torch.rand(2, 7)})


@pytest.mark.parametrize("image_shape", [(1, 9, 8), (1, 36, 36), (3, 40, 33)], ids=str)
def test_features_that_are_not_pooled_depend_on_where_things_are(image_shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image = torch.zeros(2, *image_shape)
    image[0, :, :3, :3] = image[1, :, -3:, -3:] = 1
    apart = ConvEmbedder(image_shape, width=8, pooled=False)({"image": image})["features"]
    assert (apart[0] - apart[1]).norm() > 0.05
    assert apart.shape == (2, 64)
