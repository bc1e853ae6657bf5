"""Computes sums over all pairs of a positive and a negative, in O(N log N) time."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms import sorting
from lossframe.losses.base.tracing import is_compiled, is_grads_batched, is_transformed

_BLOCK, _FEW_BLOCK = 16, 32
"""Places in a block of the scan: small blocks need many levels, large ones more work in each."""
_FEW = 2048
"""Number of places up to which fewer operations are faster than fewer numbers, also on a CPU."""
_LARGEST = 2.0**1022
"""Stands for an infinite score, so that differences are numbers; sums beyond half of this become infinite again."""


def pair_sums(scores: Tensor, positive: Tensor, margin: float, power: int) -> Tensor:
    r"""Return $\sum_j \max(0, m - (s_i - s_j))^k$ over the negatives $j$ for each positive `[M]`; others get 0.

    The positives' $m - s_i$ and the negatives' $-s_j$ are sorted together, in ascending order. The negatives that
    violate the margin of a positive come before it. The sums are float64.
    """
    if not len(scores):
        return scores
    # torch.func does not let numpy sort, which is for float32 alone
    dtype = torch.float64 if is_transformed() else scores.dtype
    limits = _rounded_down(margin * positive - scores.detach().double(), dtype)
    keys = sorting.keys(limits, torch.arange(len(scores), device=scores.device), positive)[None]
    ordered = sorting.Ordered(keys, limits.dtype)
    (flags,), (order,) = ordered.flagged(), ordered.columns()
    places = -scores.gather(0, order).double()  # single precision moves half the bytes about
    steps = _steps(places.detach(), flags, margin)
    sums = torch.where(flags, sums_before((~flags).double(), places, steps, power), 0)
    sums = torch.where(sums < _LARGEST / 2, sums, torch.inf)  # NaN is 0 times the infinity of an overflow
    spoilt = torch.where(scores.detach().isnan().any(), torch.nan, 0.0)
    return torch.zeros_like(scores).scatter(0, order, sums.to(scores.dtype)) + spoilt


def _rounded_down(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round float64 numbers down to a dtype, so that they sort before equal numbers of that dtype."""
    rounded = x.to(dtype)
    return torch.where(rounded > x, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def _steps(places: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Return the distance of each place to the one before: 0 if no negative is before, or no positive behind."""
    distances = places.clamp(-_LARGEST, _LARGEST).diff() + margin * positive.double().diff()
    index = torch.arange(len(places), device=places.device)
    first = torch.where(positive, len(places), index).amin()
    last = torch.where(positive, index, -1).amax()
    matters = (index[1:] > first) & (index[1:] <= last)
    return F.pad(torch.where(matters, distances, 0).clamp_min(0), (1, 0))


def sums_before(weights: Tensor, places: Tensor, steps: Tensor, power: int) -> Tensor:
    r"""Return $\sum_{j \le i} w_j (x_i - x_j)^k$ of ascending places $x$; `steps` are the exact distances between."""
    if is_compiled() and not places.requires_grad:  # Dynamo would warn
        return _scan([weights], steps, power)[-1]
    if is_grads_batched(weights):
        moves = F.pad(places.clamp(-_LARGEST, _LARGEST).diff(), (1, 0))
        return _scan([weights], steps + (moves - moves.detach()), power, by_place=False)[-1]
    function = _SumsBefore if is_compiled() else _WithForwardMode
    return cast(Tensor, function.apply(weights, places, steps, power))


def sums_behind(weights: Tensor, places: Tensor, steps: Tensor, power: int) -> Tensor:
    r"""Return $\sum_{j \ge i} w_j (x_j - x_i)^k$."""
    backwards = steps.roll(-1, -1).flip(-1)
    return sums_before(weights.flip(-1), -places.flip(-1), backwards, power).flip(-1)


class _SumsBefore(torch.autograd.Function):
    """Computes `sums_before`; the gradient consists of such sums again, and so has gradients of every order."""

    @staticmethod
    def forward(weights: Tensor, places: Tensor, steps: Tensor, power: int) -> Tensor:
        return _scan([weights], steps, power)[-1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        *tensors, ctx.power = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weights, places, steps = ctx.saved_tensors
        of_weights, of_places, k = None, None, ctx.power
        if ctx.needs_input_grad[0]:
            of_weights = sums_behind(grad, places, steps, k)
        if ctx.needs_input_grad[1] and k:
            before = grad * sums_before(weights, places, steps, k - 1)
            of_places = k * (before - weights * sums_behind(grad, places, steps, k - 1))
        return of_weights, of_places, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        weights, places, steps = (
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs[:3], dims, strict=False)
        )
        return sums_before(weights, places, steps, inputs[3]), 0


class _WithForwardMode(_SumsBefore):
    """Computes `sums_before` with forward-mode derivatives too, with which `torch.compile` refuses a Function."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        _SumsBefore.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def jvp(ctx: Any, of_weights: Tensor | None, of_places: Tensor | None, *_: None) -> Tensor:
        weights, places, steps = ctx.saved_tensors
        slope, k = torch.zeros_like(places), ctx.power
        if of_weights is not None:
            slope = slope + sums_before(of_weights, places, steps, k)
        if of_places is not None and k:
            moved = of_places * sums_before(weights, places, steps, k - 1)
            slope = slope + k * (moved - sums_before(weights * of_places, places, steps, k - 1))
        return slope


def _scan(moments: list[Tensor], steps: Tensor, power: int, by_place: bool = True) -> list[Tensor]:
    r"""Return the moments at all places, from the contribution of each place: to the last moment alone, or to all.

    Moments are the coefficients $\sum_j w_j \binom{k}{q} (x_i - x_j)^q$ of a polynomial. Nothing is ever subtracted.
    With `by_place` the scan writes in place, which autograd cannot follow.
    """
    places = steps.shape[-1]
    size, within = _BLOCK, _one_by_one if by_place and steps.device.type == "cpu" else _at_once
    if places <= _FEW:
        size, within = _FEW_BLOCK if places > 2 * _FEW_BLOCK else places, _at_once
    blocks, kept = -(-places // size), range(power + 1) if len(moments) > 1 else [power]
    added, steps = [_blocks(x, blocks, size) for x in moments], _blocks(steps, blocks, size)
    results, ends = within(added, steps, power, kept)
    if blocks > 1:
        reach = steps.cumsum(0)
        carried = [F.pad(x.narrow(-1, 0, blocks - 1), (1, 0)) for x in _scan(ends, reach[-1], power, by_place)]
        results = [x + _shifted(carried, reach, power, q) for x, q in zip(results, kept, strict=True)]
    return [x.movedim(0, -1).reshape(*x.shape[1:-1], blocks * size).narrow(-1, 0, places) for x in results]


def _blocks(x: Tensor, blocks: int, size: int) -> Tensor:
    """Cut places into blocks `[size, ..., blocks]`."""
    padded = F.pad(x, (0, blocks * size - x.shape[-1]))
    return padded.reshape(*x.shape[:-1], blocks, size).movedim(-1, 0).contiguous()


def _one_by_one(
    added: list[Tensor], steps: Tensor, power: int, kept: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the moments within blocks and at their ends; loops over the places of all blocks at once."""
    moments = [torch.zeros_like(added[0][0]) for _ in range(power + 1)]
    results = [torch.empty_like(added[0]) for _ in kept]
    for place, step in enumerate(steps):
        for last in range(power, 0, -1):  # a Taylor shift by Horner's rule
            for q in range(1, last + 1):
                moments[q].addcmul_(step, moments[q - 1])
        for q, new in enumerate(added):
            moments[q] += new[place]
        for result, q in zip(results, kept, strict=True):
            result[place] = moments[q]
    return results, moments


def _at_once(added: list[Tensor], steps: Tensor, power: int, kept: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the same moments by one matrix product per block: fewer operations, and more memory."""
    new = torch.stack([x.movedim(0, -1) for x in added], -2)  # [..., blocks, orders, size]
    raised = steps.new_ones(len(steps), len(steps)).triu()
    apart = (steps.movedim(0, -1).unsqueeze(-2) * raised.triu(1)).cumsum(-1)
    products = []
    for _ in range(power + 1):
        products.append((new @ raised).movedim(-1, 0))
        raised = raised * apart
    moments = []
    for q in range(power + 1):
        terms = [products[q - r].select(-1, r) * math.comb(power - r, q - r) for r in range(min(q + 1, len(added)))]
        moments.append(sum(terms[1:], terms[0]))
    return [moments[q] for q in kept], [x[-1] for x in moments]


def _shifted(moments: list[Tensor], step: Tensor, power: int, q: int) -> Tensor:
    """Return the moment of order q after a step, from the moments before it."""
    result = torch.zeros_like(moments[0])
    for r in range(q + 1):
        result = (result * step).add_(moments[r], alpha=math.comb(power - r, q - r))
    return result
