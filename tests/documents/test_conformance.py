"""The page of other libraries' losses lists them all, and what it says of a representative part holds."""

import sys
import warnings

import pytest
from conftest import ROOT
from pool import Pool
from torch import nn

sys.path.insert(0, str(ROOT / "scripts"))
import conformance_table
from conformance import measure, torch_nn
from conformance.case import Case, scores

PAGE = conformance_table.PAGE.read_text()
SOME = [
    "ArcFaceLoss", "CrossBatchMemory", "MultiSimilarityLoss", "NTXentLoss with ref_emb", "ProxyNCALoss", "SmoothAPLoss",
    "TripletMarginLoss with MultiSimilarityMiner", "VICRegLoss",
]  # fmt: skip
"""Losses of pytorch-metric-learning, where that is installed."""


def cases() -> list[Case]:
    """Return all losses of torch, and some with parameters, proxies, miners, views and reference embeddings."""
    try:
        from conformance import metric_learning
    except ImportError:
        return torch_nn.CASES
    return torch_nn.CASES + [case for case in metric_learning.CASES if case.name in SOME]


def test_page_lists_every_loss_of_torch_and_of_pytorch_metric_learning() -> None:
    of_torch = {name for name in vars(nn) if name.endswith("Loss")} - {"NLLLoss2d"}
    assert of_torch | {"AdaptiveLogSoftmaxWithLoss"} == {case.name for case in torch_nn.CASES}
    names = {case.name for case in cases()}
    metric_learning = pytest.importorskip("conformance.metric_learning")
    names |= set(metric_learning.names())
    assert [name for name in sorted(names) if f"| `{name}` |" not in PAGE] == []


WRONG = Case("a deviation", lambda: lambda x: (x - x.mean()).abs().mean(), lambda: (scores(2),), {"relational": False})
"""A loss of the whole batch, which the options wrongly call one of each rank's own samples."""


def on_rank(rank: int) -> list[measure.Found | str]:
    """Return what each case gives on this rank's shard."""
    warnings.simplefilter("ignore")
    return [measure.on_rank(rank, case) for case in [*cases(), WRONG]]


@pytest.mark.filterwarnings("ignore")
def test_losses_give_on_one_and_on_two_ranks_what_their_library_gives(pool: Pool) -> None:
    ranks = pool.run(len(measure.SHARDS), on_rank)
    *found, wrong = zip([*cases(), WRONG], *ranks, strict=True)
    assert not conformance_table.row(wrong[0], list(wrong[1:]))[1]
    for case, *each in found:
        text, conforms = conformance_table.row(case, each)
        assert conforms, text
        assert text in PAGE
