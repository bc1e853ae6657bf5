"""Samples kept for images, their neighbours, thumbnails and confusion counts, on one rank and on several."""

from typing import Any

import numpy as np
import pytest
import torch
from pool import Pool
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lossframe import InputError
from lossframe.callbacks.images import ConfusionMatrix
from lossframe.callbacks.images.retrieval import draw, nearest
from lossframe.callbacks.images.sampling import Samples
from lossframe.callbacks.images.thumbnails import pixels, thumbnails
from lossframe.callbacks.images.tiles import FRAME, RIGHT, WRONG

SIZES = [7, 7, 1, 2]  # of the global batches: three ranks have uneven shares, and empty ones


def shares(rank: int, ranks: int, sizes: list[int] = SIZES) -> list[Tensor]:
    """Return a rank's share of batches of consecutive numbers."""
    batches = torch.arange(sum(sizes)).split(sizes)
    return [batch[rank::ranks] for batch in batches]


def kept(rank: int, ranks: int, limit: int, silent: int | None = None) -> list[int]:
    """Return which of the numbers are kept; a `silent` rank sees no batch at all."""
    samples = Samples(limit, lambda rows: rows)
    for batch_idx, batch in enumerate(shares(rank, ranks)):
        if rank != silent:
            samples.add(batch_idx, {"number": batch, "image": batch[:, None, None].float().half()})
    rows = samples.gather()
    assert rows["image"].flatten().tolist() == rows["number"].tolist()
    return rows["number"].tolist()


@pytest.mark.parametrize("limit", [1, 5, 17, 100])
def test_any_number_of_ranks_keeps_the_same_samples(pool: Pool, limit: int) -> None:
    alone = kept(0, 1, limit)
    assert len(alone) == min(limit, 17)
    assert alone == sorted(alone)
    for ranks in (2, 3):
        assert pool.run(ranks, kept, ranks, limit) == [alone] * ranks


def test_rank_without_samples_keeps_those_of_the_others(pool: Pool) -> None:
    mine = {number for batch in shares(0, 2) for number in batch.tolist()}
    assert pool.run(2, kept, 2, 100, 1) == [sorted(mine)] * 2


def test_kept_samples_are_spread_over_the_epoch_and_bounded() -> None:
    sizes = [100] * 100
    samples = Samples(1_000, lambda rows: rows)
    most = 0
    for batch_idx, batch in enumerate(shares(0, 1, sizes)):
        samples.add(batch_idx, {"number": batch})
        most = max(most, sum(len(rows["number"]) for rows in samples._rows))
    tenths = np.bincount(samples.gather()["number"] // 1_000)
    assert most <= 2_000
    assert tenths.sum() == 1_000
    assert tenths.min() > 60  # binomial, mean 100, standard deviation 9.5
    assert tenths.max() < 140


def test_ranks_without_batches_gather_nothing(pool: Pool) -> None:
    assert pool.run(2, nothing) == [({}, None)] * 2


def nothing(rank: int) -> Any:
    return Samples(3, lambda rows: rows).gather(), ConfusionMatrix().gather()


def test_nearest_neighbours_equal_those_of_plain_loops() -> None:
    embeddings = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    queries, found = nearest(embeddings, 6, 5)
    assert queries.tolist() == [0, 5, 10, 15, 20, 25]
    for query, rows in zip(queries.tolist(), found.tolist(), strict=True):
        others = [k for k in range(30) if k != query]
        assert rows == sorted(others, key=lambda k: float((embeddings[k] - embeddings[query]).norm()))[:5]
    assert nearest(embeddings[:1], 6, 5)[1].shape == (1, 0)


def test_right_neighbours_are_framed_and_wrong_ones_crossed() -> None:
    black = np.zeros((1, 3, 64, 64, 3), dtype=np.uint8)
    picture = draw(black, torch.tensor([[3, 3, 4]]), None)
    tops = [row for row in picture if (row == RIGHT).all(axis=1).any() and (row == WRONG).all(axis=1).any()]
    row = tops[0]  # along the upper edges
    assert (row == RIGHT).all(axis=1).sum() == (row == WRONG).all(axis=1).sum() == 64 + 2 * FRAME
    white = (picture == 255).all(axis=2)
    right, wrong = (np.argwhere((picture == colour).all(axis=2)) for colour in (RIGHT, WRONG))
    crossed = [white[r[:, 0].min() : r[:, 0].max(), r[:, 1].min() : r[:, 1].max()].sum() for r in (right, wrong)]
    assert crossed[0] == 0
    assert crossed[1] > 10


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 50), (2, 1, 3), (4, 90, 30)])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-2.1, 2.6), (0, 255), (0, 65_535)])
def test_images_of_any_range_and_shape_become_thumbnails(shape: tuple[int, ...], low: float, high: float) -> None:
    image = low + (high - low) * torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    image[0, 0], image[1, 0] = low, high
    shown = pixels(thumbnails(image, 32), 32)
    assert shown.shape == (5, 32, 32, 3)
    assert shown.dtype == np.uint8
    assert shown[0, 16, 16, 0] == 0
    assert shown[1, 16, 16, 0] == 255


def test_constant_image_is_black_and_vector_is_an_input_error() -> None:
    assert not pixels(thumbnails(torch.ones(2, 1, 4, 4), 8), 8).any()
    with pytest.raises(InputError, match=r"\[N, C, H, W\], found \[2, 64\]"):
        thumbnails(torch.ones(2, 64), 8)


def predictions(classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (sum(SIZES),), generator=generator)
    labels[3] = -100
    return torch.randn(sum(SIZES), classes, generator=generator), labels


def counted(rank: int, ranks: int, silent: int | None = None) -> np.ndarray:
    logits, labels = predictions()
    confusion = ConfusionMatrix()
    confusion.start()
    for batch_idx, batch in enumerate(shares(rank, ranks)):
        if rank != silent:
            confusion.add(batch_idx, {"logits": logits[batch], "labels": labels[batch]})
    result = confusion.gather()
    assert result is not None
    return result


def test_confusion_counts_equal_scikit_learn_on_any_number_of_ranks(pool: Pool) -> None:
    logits, labels = predictions()
    seen = labels != -100
    expected = confusion_matrix(labels[seen], logits[seen].argmax(1), labels=range(4))
    for ranks in (1, 2, 3):
        for found in pool.run(ranks, counted, ranks):
            np.testing.assert_array_equal(found, expected)
    mine = torch.cat(shares(0, 2))
    mine = mine[seen[mine]]
    for found in pool.run(2, counted, 2, 1):
        np.testing.assert_array_equal(found, confusion_matrix(labels[mine], logits[mine].argmax(1), labels=range(4)))


def test_confusion_of_one_score_per_sample_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"'logits' \[N, K, ...\] and 'labels' \[N, ...\], but was given \[5\] and"):
        ConfusionMatrix().add(0, {"logits": torch.zeros(5), "labels": torch.zeros(5).long()})
