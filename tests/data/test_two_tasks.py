"""Data sets of two tasks: each digit is drawn, no image is in two splits, and conflicting tasks have known errors."""

import pytest
import torch

from lossframe.data import ConflictingTasks, Digits, TwoDigits
from lossframe.errors import InputError


def drawn(seed: int = 1, **options: object) -> TwoDigits:
    data = TwoDigits(Digits(), offset=8, seed=seed, **options)  # digits of 8 pixels, side by side
    data.setup()
    return data


def parts(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return image[:, 0, :8, :8], image[:, 0, 8:, 8:]


def found(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_digits_of_a_sample_are_of_the_classes_that_it_states() -> None:
    loaded = Digits().load()
    known = dict(zip(found(loaded["image"]), loaded["labels"].tolist(), strict=True))
    frame = drawn().frame
    for part, name in zip(parts(frame["image"]), ("left", "right"), strict=True):
        assert [known[each] for each in found(part)] == frame[name].tolist()
    assert torch.equal(frame["classes"], torch.stack([frame["left"], frame["right"]], dim=1))
    assert not frame["image"][:, 0, :8, 8:].any()


def test_no_image_is_in_two_splits_and_each_is_as_often_left_as_right() -> None:
    data = drawn(per_image=2)
    assert sum(map(len, data.splits.values())) == 2 * 1797
    held = []
    for rows in data.splits.values():
        left, right = (sorted(found(part)) for part in parts(data.frame["image"][rows]))
        assert left == right
        held.append(set(left))
    assert sum(map(len, held)) == len(set.union(*held)) == len(set(found(Digits().load()["image"])))


def test_brighter_pixel_shows_where_digits_overlap() -> None:
    apart, over = (TwoDigits(Digits(), offset=offset) for offset in (8, 3))
    for data in (apart, over):
        data.setup()
    left, right = parts(apart.frame["image"])
    assert over.image_shape == (1, 11, 11)
    assert torch.equal(over.frame["image"][:, 0, 3:8, 3:8], torch.maximum(left[:, 3:, 3:], right[:, :5, :5]))


def test_samples_depend_on_the_seed_only() -> None:
    first, same, other = drawn(), drawn(), drawn(seed=2)
    assert torch.equal(first.frame["image"], same.frame["image"])
    assert not torch.equal(first.frame["image"], other.frame["image"])


def errors(data: ConflictingTasks, direction: torch.Tensor) -> torch.Tensor:
    """Return the error of both targets over their variance, of the best prediction from one number."""
    number = data.frame["inputs"].double() @ direction
    target = data.frame["target"].double()
    correlation = torch.corrcoef(torch.column_stack([number, target]).T)[0, 1:]
    return 1 - correlation.square()


@pytest.mark.parametrize("cosine", [0.5, -0.2])
def test_errors_of_conflicting_tasks_are_those_that_the_docstring_states(cosine: float) -> None:
    data = ConflictingTasks(size=100_000, cosine=cosine, noise=0.1, scale=10.0)
    data.setup()
    first, second = torch.linalg.lstsq(data.frame["inputs"].double(), data.frame["target"].double()).solution.T
    first, second = first / first.norm(), second / second.norm()
    assert first @ second == pytest.approx(cosine, abs=0.01)
    one_sided = torch.tensor([0.1, 0.1 + 0.9 * (1 - cosine**2)], dtype=torch.float64)
    torch.testing.assert_close(errors(data, first), one_sided, atol=0.01, rtol=0)
    halving = first + second * (1 if cosine > 0 else -1)
    assert errors(data, halving).mean() == pytest.approx(0.1 + 0.9 * (1 - abs(cosine)) / 2, abs=0.01)
    scales = data.frame["target"].std(dim=0)
    torch.testing.assert_close(scales, torch.tensor([1.0, 10.0]), rtol=0.02, atol=0)


@pytest.mark.parametrize("options", [{"cosine": 1.5}, {"noise": 1.0}, {"scale": 0.0}])
def test_conflicting_tasks_that_cannot_be_drawn_are_an_input_error(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="wanted cosine from -1 to 1, noise from 0 to below 1 and scale above 0"):
        ConflictingTasks(**options)
