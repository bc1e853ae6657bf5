"""Retrieval metrics equal torchmetrics' classes and plain loops, in any order, batches and ranks."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from pool import Pool
from torch import Tensor
from torchmetrics.retrieval import RetrievalMAP, RetrievalPrecision

from lossframe.data import Digits
from lossframe.errors import InputError
from lossframe.training.metrics import RetrievalMetrics

CONF = str(Path(__file__).parents[2] / "conf")
Samples = tuple[Tensor, Tensor, Tensor]


@cache
def digits(size: int = 90, noise: float = 0.5) -> Samples:
    data = Digits()
    data.setup()
    ids = data.splits["test"][:size]
    pixels = data.frame["image"][ids].flatten(1)
    noisy = pixels - pixels.mean(0) + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(noisy), data.frame["labels"][ids], ids


def result(*parts: Samples) -> dict[str, float]:
    metric = RetrievalMetrics()
    for part in parts:
        metric.update(*part)
    return {name: value.item() for name, value in metric.compute().items()}


def at(samples: Samples, rows: Tensor | list[int] | slice) -> Samples:
    embeddings, labels, index = samples
    return embeddings[rows], labels[rows], index[rows]


def test_retrieval_metrics_equal_torchmetrics() -> None:
    embeddings, labels, index = digits()
    scores = embeddings @ embeddings.T + 2  # torchmetrics leaves out what scores below 0
    others = ~torch.eye(len(labels), dtype=torch.bool)
    queries = torch.arange(len(labels))[:, None].expand_as(scores)
    found = result((embeddings, labels, index))
    for name, metric in (
        ("precision_at_1", RetrievalPrecision(top_k=1, empty_target_action="skip")),
        ("mean_average_precision", RetrievalMAP(empty_target_action="skip")),
    ):
        wanted = metric(scores[others], (labels == labels[:, None])[others], indexes=queries[others])
        assert found[name] == pytest.approx(wanted.item(), rel=1e-6)
    assert 0.3 < found["mean_average_precision"] < found["precision_at_1"] < 0.99


@settings(deadline=None)
@given(seed=st.integers(0, 10), size=st.integers(0, 12), classes=st.integers(1, 4), distinct=st.integers(1, 3))
def test_retrieval_metrics_with_ties_equal_plain_loops(seed: int, size: int, classes: int, distinct: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.eye(3)[torch.randint(0, distinct, (size,), generator=generator)]
    labels = torch.randint(0, classes, (size,), generator=generator)
    first, average = [], []
    for query in range(size):
        others = [other for other in range(size) if other != query]
        others.sort(key=lambda other: (-float(embeddings[query] @ embeddings[other]), other))
        right = [bool(labels[other] == labels[query]) for other in others]
        if any(right):
            first.append(float(right[0]))
            places = [place for place, hit in enumerate(right, start=1) if hit]
            average.append(sum(number / place for number, place in enumerate(places, start=1)) / len(places))
    found = result((embeddings, labels, torch.arange(size)))
    assert found["precision_at_1"] == pytest.approx(sum(first) / max(1, len(first)), rel=1e-6)
    assert found["mean_average_precision"] == pytest.approx(sum(average) / max(1, len(average)), rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 100), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_order_and_batches_change_no_retrieval_metric(seed: int, cuts: list[int]) -> None:
    samples = digits(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    edges = [0, *sorted(cuts), 60]
    batches = [at(samples, order[start:end]) for start, end in pairwise(edges)]
    assert result(*batches) == pytest.approx(result(samples), rel=1e-6)


def test_sample_given_twice_counts_once() -> None:
    samples = digits()
    assert result(samples, at(samples, [3, 3, 50])) == result(samples)


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ([], 0.0),
        ([(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))], 0.0),
        ([(torch.ones(1, 4), torch.tensor([3]), torch.tensor([0]))], 0.0),
        ([(torch.eye(3), torch.arange(3), torch.arange(3))], 0.0),
        ([(-torch.ones(2, 4), torch.tensor([1, 1]), torch.arange(2))], 1.0),
        ([(torch.tensor([[1.0], [torch.nan]]), torch.tensor([1, 1]), torch.arange(2))], torch.nan),
    ],
    ids=["never updated", "empty", "one sample", "no right answer", "negative length", "nan"],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_batches_without_answers_have_defined_values(parts: list[Samples], value: float) -> None:
    assert result(*parts) == pytest.approx(dict.fromkeys(result(), value), nan_ok=True)


def test_metric_after_reset_gives_the_same_values_in_half_precision() -> None:
    metric = RetrievalMetrics()
    samples = digits()
    for _ in range(2):
        metric.update(samples[0].bfloat16(), *samples[1:])
        again = {name: value.item() for name, value in metric.compute().items()}
        assert again == result((samples[0].bfloat16().float(), *samples[1:]))
        metric.reset()


def test_labels_of_another_shape_are_an_input_error() -> None:
    embeddings, labels, index = digits(4)
    with pytest.raises(InputError, match=r"labels \[N\] .* given \[4, 64\], \[4, 1\] and \[4\]"):
        RetrievalMetrics().update(embeddings, labels[:, None], index)


def uneven(rank: int, world_size: int) -> list[Samples]:
    """Batches of which rank 0 has most, rank 1 an empty one too, and the last rank none at all."""
    samples = digits()
    if rank == world_size - 1:
        return []
    if rank == 0:
        return [at(samples, slice(0, 50)), at(samples, slice(50, 77))]
    return [at(samples, slice(77, 90)), at(samples, slice(0, 0)), at(samples, slice(70, 77))]


def on_a_rank(rank: int, world_size: int) -> dict[str, float]:
    return result(*uneven(rank, world_size))


def test_ranks_with_uneven_and_no_samples_equal_one_process(pool: Pool) -> None:
    assert pool.run(3, on_a_rank, 3) == [result(digits())] * 3


def frame_of(name: str, size: int) -> dict[str, Tensor]:
    torch.manual_seed(size)
    labels = torch.arange(size) % 10
    image = {"embeddings": torch.eye(10)[labels], "labels": labels, "index": labels, "logits": torch.eye(10)[labels]}
    return image if name != "regression" else {"prediction": torch.linspace(0, 1, size), "target": torch.ones(size)}


@pytest.mark.parametrize(
    ("chosen", "monitor"),
    [
        (["retrieval"], "val/precision_at_1"),
        (["classification"], "val/accuracy"),
        (["retrieval", "classification"], "val/accuracy"),
        (["regression"], "val/mean_squared_error"),
    ],
    ids=str,
)
def test_configured_metrics_read_frames_and_provide_the_monitored_value(chosen: list[str], monitor: str) -> None:
    data = "+data=diabetes" if chosen == ["regression"] else "+data=digits"
    with initialize_config_dir(CONF, version_base=None):
        config = compose(overrides=[data, "+seed=0", f"+metrics=[{','.join(chosen)}]"])
    computed: dict[str, Tensor] = {}
    for name, metric in instantiate(config.metrics).items():
        for size in (4, 5):
            frame = frame_of(chosen[0], size)
            metric.metric.update(*[frame[entry] for entry in metric.reads])
        value = metric.metric.compute()
        computed |= value if isinstance(value, dict) else {name: value}
    assert config.checkpoint_monitor.metric == monitor
    assert monitor.removeprefix("val/") in computed
    assert all(value.isfinite() and value.ndim == 0 for value in computed.values())
