"""Training images change at random by seed, epoch and id, and the images of an evaluation do not."""

from types import SimpleNamespace

import pytest
import torch

from lossframe.data import Augmentation, Digits
from lossframe.data.augmentation import CHANGES
from lossframe.errors import InputError


def images(black: float = 0.0) -> dict[str, torch.Tensor]:
    data = Digits(black=black)
    data.setup()
    ids = torch.arange(40)
    return {"image": data.frame["image"][ids], "index": ids}


def test_image_depends_on_seed_epoch_and_id_and_not_on_its_batch() -> None:
    batch = images()
    change = Augmentation(list(CHANGES), seed=3)
    whole = change(batch, 5)["image"]
    for rank in range(3):
        part = change({name: entry[rank::3] for name, entry in batch.items()}, 5)["image"]
        torch.testing.assert_close(part, whole[rank::3], rtol=0, atol=1e-6)
    assert not torch.equal(change(batch, 6)["image"], whole)
    assert not torch.equal(Augmentation(list(CHANGES), seed=4)(batch, 5)["image"], whole)
    empty = change({name: entry[:0] for name, entry in batch.items()}, 5)["image"]
    assert empty.shape == (0, 1, 8, 8)


@pytest.mark.parametrize("black", [0.0, -1.0])
@pytest.mark.parametrize("name", CHANGES)
def test_change_keeps_shape_and_range_and_most_of_the_image(name: str, black: float) -> None:
    batch = images(black)
    before, after = batch["image"], Augmentation([name], background=black)(batch, 0)["image"]
    assert after.shape == before.shape
    assert black - 1e-5 <= after.min() <= after.max() <= 1 + 1e-5
    changed = (after - before).flatten(1).norm(dim=1)
    assert (changed > 1e-3).float().mean() > 0.4
    assert changed.mean() < (before - before.flip(0)).flatten(1).norm(dim=1).mean()


def test_flip_mirrors_and_crop_shifts_by_whole_pixels() -> None:
    batch = images()
    before, flipped = batch["image"], Augmentation(["flip"])(batch, 0)["image"]
    mirrored = [torch.equal(image, other.flip(2)) for image, other in zip(before, flipped, strict=True)]
    assert 10 < sum(mirrored) < 30
    padded = torch.nn.functional.pad(before, (1, 1, 1, 1))
    shifts = {(0, 0): 0}
    for whole, image in zip(padded, Augmentation(["crop"])(batch, 0)["image"], strict=True):
        found = [(r, c) for r in range(3) for c in range(3) if torch.equal(whole[:, r : r + 8, c : c + 8], image)]
        assert found
        shifts[found[0]] = 1
    assert len(shifts) == 9


def test_only_training_batches_change_and_again_in_each_epoch() -> None:
    data = Digits(augment=["crop", "rotate"], seed=1)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    data.setup()
    plain = data.frame["image"]
    for loader, changed in ((data.train_dataloader(), True), (data.val_dataloader(), False)):
        batch = next(iter(loader))
        assert torch.equal(batch["image"], plain[batch["index"]]) != changed


def test_unknown_change_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"data.augment: .* found 'flips'\. Did you mean 'flip'"):
        Digits(augment=["flips"])
