"""Sums, gathers and messages over ranks with uneven shards; the only package that imports `torch.distributed`."""

from lossframe.distributed.collectives import gather, total
from lossframe.distributed.group import close, collective_device, first_rank_says, rank, shard, world_size
from lossframe.distributed.messages import anywhere, exchange
from lossframe.distributed.workshare import added_up, assembled, own_part, same_inputs, sharing

__all__ = [
    "added_up",
    "anywhere",
    "assembled",
    "close",
    "collective_device",
    "exchange",
    "first_rank_says",
    "gather",
    "own_part",
    "rank",
    "same_inputs",
    "shard",
    "sharing",
    "total",
    "world_size",
]
