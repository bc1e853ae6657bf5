"""Collectives of real ranks: `gather`, `total`, `exchange`, and the one collective of a drain."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pool import Pool

from lossframe import InputError, distributed, drain
from lossframe.losses import CategoricalAccuracy, MSELoss
from lossframe.statistics.recorder import Recorder

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool]
SHARDS = [3, 0, 1]


def rows(rank: int, dtype: torch.dtype) -> torch.Tensor:
    values = torch.arange(SHARDS[rank] * 2).reshape(SHARDS[rank], 2) + 10 * rank
    return (values % 2 if dtype == torch.bool else values).to(dtype)


def gather_all(rank: int) -> list[torch.Tensor]:
    return distributed.gather([rows(rank, dtype) for dtype in DTYPES])[0]


def test_gather_concatenates_uneven_shards_of_every_dtype(pool: Pool) -> None:
    for gathered in pool.run(3, gather_all):
        for dtype, result in zip(DTYPES, gathered, strict=True):
            assert torch.equal(result, torch.cat([rows(rank, dtype) for rank in range(3)]))
            assert result.dtype == dtype


def gradients(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    local = rows(rank, torch.float64).requires_grad_()
    (everything,), own = distributed.gather([local])
    assert everything[own].equal(local)
    (everything**2).sum().backward()
    by_gather = local.grad
    local = rows(rank, torch.float64).requires_grad_()
    distributed.total((local**2).sum()).backward()
    assert by_gather is not None
    assert local.grad is not None
    return by_gather, local.grad


def test_gradients_of_local_rows_are_multiplied_by_the_number_of_ranks(pool: Pool) -> None:
    for rank, (gathered, summed) in enumerate(pool.run(3, gradients)):
        assert torch.equal(gathered, 3 * 2 * rows(rank, torch.float64))
        assert torch.equal(summed, gathered)


def mismatched(rank: int) -> None:
    distributed.gather([torch.zeros(2, 2 + rank)])


def test_shapes_that_cannot_be_gathered_are_an_error_on_every_rank(pool: Pool) -> None:
    for _, (error, _) in pool.outcomes(2, mismatched):
        assert isinstance(error, InputError)
        assert "rank 0: [(2, 2)]; rank 1: [(2, 3)]" in str(error)


class Count:
    """Counts the collectives that this process takes part in."""

    NAMES = (
        "all_reduce",
        "all_gather",
        "all_gather_into_tensor",
        "broadcast",
        "barrier",
        "reduce",
        "all_gather_object",
    )

    def __enter__(self) -> "Count":
        self.calls: list[str] = []
        self.saved = {name: getattr(dist, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(dist, name, self._counted(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self.saved.items():
            setattr(dist, name, function)

    def _counted(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return self.saved[name](*args, **kwargs)

        return call


def drain_terms(rank: int, terms: int) -> tuple[int, Any, Any]:
    recorders = {f"term{term}": Recorder({"log_quantiles": True}) for term in range(terms)}
    generator = torch.Generator().manual_seed(rank)
    kept = []
    for recorder in recorders.values():
        for step in range(70):
            values = torch.randn((rank * step) % 5, generator=generator) + 100  # rank 0 sees nothing
            recorder.accumulate("value", values)
            kept.append(values)
        if rank == 1:
            recorder.accumulate("seen_on_one_rank_only", torch.tensor(1.0))
        recorder.accumulate("same", torch.tensor([5.0]), replicated=True)
        recorder.accumulate("loss", (3 * torch.randn(50 * 256, generator=generator)).exp())
    with Count() as count:
        drained = drain(recorders)
    return len(count.calls), drained, kept


@pytest.mark.parametrize("terms", [1, 30])
def test_drain_makes_one_collective_and_is_exact(pool: Pool, terms: int) -> None:
    results = pool.run(3, drain_terms, terms)
    for term in range(terms):
        seen = np.concatenate([values for _, _, kept in results for values in kept[70 * term : 70 * (term + 1)]])
        for collectives, drained, _ in results:
            moments = drained[f"term{term}"]["value"]
            assert collectives == 1
            assert moments.count == len(seen)
            for name in ("mean", "std", "min", "max"):
                assert getattr(moments, name) == pytest.approx(getattr(seen.astype(np.float64), name)(), rel=1e-9)
            assert drained[f"term{term}"]["seen_on_one_rank_only"].count == 1
            assert drained[f"term{term}"]["same"].count == 1
            assert drained[f"term{term}"]["loss"].histogram.counts.sum() == 3 * 50 * 256


def oversized(rank: int) -> tuple[int, list[Any]]:
    with Count() as count:
        everyone = distributed.exchange("x" * (10_000 * rank), 100, torch.device("cpu"))
    return len(count.calls), everyone


def test_message_beyond_the_capacity_takes_a_second_collective(pool: Pool) -> None:
    for calls, everyone in pool.run(3, oversized):
        assert calls == 2
        assert [len(message) for message in everyone] == [0, 10_000, 20_000]


def step(rank: int) -> list[str]:
    with Count() as count:
        prediction = torch.randn(3 + rank, 4, requires_grad=True)
        MSELoss()(prediction, torch.zeros(3 + rank, 4)).backward()
    separable = list(count.calls)
    with Count() as count:
        CategoricalAccuracy()(prediction, torch.zeros(3 + rank, dtype=torch.int64))
    return separable + count.calls


def test_separable_loss_makes_one_collective_per_step(pool: Pool) -> None:
    assert pool.run(2, step) == [["all_reduce", "all_reduce"]] * 2
