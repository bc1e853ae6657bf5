"""Batch samplers choose the samples of each batch, and shards of ranks add up to the global batches."""

from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossframe.data import (
    ClassBalancedBatchSampler,
    OrderedBatchSampler,
    ShardedBatchSampler,
    ShuffledBatchSampler,
    balanced,
    shuffled,
)
from lossframe.errors import InputError

samplers = st.one_of(
    st.builds(OrderedBatchSampler, st.integers(0, 50), st.integers(1, 20)),
    st.builds(ShuffledBatchSampler, st.integers(0, 50), st.integers(1, 20), st.integers(0, 5)),
    st.builds(
        ClassBalancedBatchSampler,
        st.lists(st.integers(0, 9), min_size=1, max_size=50).map(lambda drawn: torch.tensor([0, 1, 2, *drawn])),
        st.integers(1, 3),
        st.integers(1, 9),
        st.integers(0, 5),
    ),
)


@settings(deadline=None)
@given(sampler=samplers, world_size=st.integers(1, 9), epoch=st.integers(0, 5))
def test_shards_of_all_ranks_make_up_the_global_batches(sampler, world_size: int, epoch: int) -> None:
    sampler.set_epoch(epoch)
    batches = list(sampler)
    shards = [list(ShardedBatchSampler(sampler, rank, world_size)) for rank in range(world_size)]
    assert {len(shard) for shard in shards} == {len(batches)} == {len(sampler)}
    for position, batch in enumerate(batches):
        parts = [shard[position] for shard in shards]
        assert sorted(chain.from_iterable(parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert list(sampler) == batches  # nothing depends on what was drawn before


@settings(deadline=None)
@given(size=st.integers(0, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 3))
def test_shuffled_batches_hold_each_sample_once(size: int, batch_size: int, seed: int) -> None:
    drawn = list(ShuffledBatchSampler(size, batch_size, seed))
    assert sorted(chain.from_iterable(drawn)) == list(range(size))
    assert all(len(batch) == batch_size for batch in drawn[:-1])


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    samples_per_class=st.integers(1, 8),
    data=st.data(),
)
def test_balanced_batches_hold_equally_many_samples_per_class_and_none_twice(
    sizes: list[int], samples_per_class: int, data: st.DataObject
) -> None:
    classes_per_batch = data.draw(st.integers(1, len(sizes)))
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    sampler = ClassBalancedBatchSampler(labels, classes_per_batch, samples_per_class, seed=3)
    drawn: Counter[int] = Counter()
    for batch in sampler:
        counts = labels[batch].bincount(minlength=len(sizes))
        assert sum(counts > 0) == classes_per_batch
        for label, count in enumerate(counts.tolist()):
            assert count in (0, min(samples_per_class, sizes[label]))
        assert len(set(batch)) == len(batch)
        drawn.update(batch)
        for label in range(len(sizes)):  # each sample of a class once before any twice
            times = [drawn[int(position)] for position in (labels == label).nonzero()]
            assert max(times) - min(times) <= 1
    assert len(sampler) == max(1, len(labels) // (classes_per_batch * samples_per_class))


def test_classes_of_fewer_samples_than_wanted_are_named_in_a_warning() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3 + [2] * 8)
    with pytest.warns(UserWarning, match=r"1 of 3 classes .* fewer than 8 .*: 1 \(3\)\. .*data.sampler.samples_per"):
        sampler = balanced({"labels": labels}, 24, seed=0)
    assert [len(batch) for batch in sampler] == [19]


@pytest.mark.filterwarnings("ignore:1 of 3 classes have fewer than 5")
def test_default_number_of_samples_fits_classes_that_are_small() -> None:
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 6)
    assert [len(batch) for batch in balanced({"labels": labels}, None, seed=0)] == [13]


@pytest.mark.parametrize("classes", [1, 2, 3, 9, 10, 11, 40])
@pytest.mark.parametrize("samples_per_class", [1, 7, 8, 80, 90])
@pytest.mark.filterwarnings("ignore:.*classes have fewer than")
def test_default_batch_size_fits_the_number_of_classes(classes: int, samples_per_class: int) -> None:
    sampler = balanced({"labels": torch.arange(classes).repeat(100)}, None, 0, samples_per_class)
    sizes = {len(batch) for batch in sampler}
    assert sizes == {samples_per_class * max(1, min(classes, 80 // samples_per_class))}
    assert {len(batch) for batch in shuffled({"labels": torch.zeros(160)}, None, 0)} == {80}


@pytest.mark.parametrize("sampler", [balanced, shuffled])
def test_epochs_and_seeds_change_the_batches(sampler) -> None:
    frame = {"labels": torch.arange(10).repeat(30)}
    first, other = sampler(frame, 80, seed=0), sampler(frame, 80, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        first.set_epoch(epoch)
        epochs.append(list(first))
    assert epochs[0] == epochs[2] != epochs[1]
    assert epochs[0] != list(other)


def test_too_few_classes_and_ranks_out_of_range_are_input_errors() -> None:
    with pytest.raises(InputError, match=r"a batch of 3 classes .* hold 2 classes"):
        ClassBalancedBatchSampler(torch.tensor([0, 0, 1]), classes_per_batch=3, samples_per_class=2)
    with pytest.raises(InputError, match="rank must be 0 to 1 for world_size=2, but is 2"):
        ShardedBatchSampler(OrderedBatchSampler(4, 2), rank=2, world_size=2)
