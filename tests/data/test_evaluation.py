"""Batches of validation and test hold several samples of several classes, and each sample once."""

from itertools import chain

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossframe.data import GroupedBatchSampler, OrderedBatchSampler
from lossframe.data.evaluation import evaluated


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    batch_size=st.integers(4, 40),
    samples_per_class=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_every_sample_comes_once_beside_another_of_its_class_if_there_is_one(
    sizes: list[int], batch_size: int, samples_per_class: int, seed: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    sampler = GroupedBatchSampler(labels, batch_size, samples_per_class)
    batches = list(sampler)
    assert sorted(chain.from_iterable(batches)) == list(range(len(labels)))
    assert batches == list(sampler)
    assert len(batches) == len(sampler)
    assert max(map(len, batches)) <= batch_size
    for batch in batches:
        counts = labels[batch].bincount(minlength=len(sizes))
        assert all(count != 1 or sizes[label] == 1 for label, count in enumerate(counts.tolist()))


def test_classes_are_dealt_in_even_groups_and_mixed_in_each_batch() -> None:
    labels = torch.tensor([0] * 9 + [1] * 18 + [2] * 2)
    batches = [labels[batch].bincount(minlength=3).tolist() for batch in GroupedBatchSampler(labels, 16, 8)]
    assert batches == [[5, 6, 0], [0, 6, 2], [4, 6, 0]]


def test_data_without_a_label_for_each_sample_is_read_in_order() -> None:
    for frame in ({"target": torch.zeros(9)}, {"labels": torch.zeros(9, 4, dtype=torch.int64)}):
        assert list(evaluated(frame, 5)) == list(OrderedBatchSampler(9, 5))
    assert list(evaluated({"labels": torch.zeros(9)}, 2)) == list(OrderedBatchSampler(9, 2))
