"""Records how the gradients of an objective's terms compare."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.loggers import tags
from lossframe.objectives.gradients import Gramian
from lossframe.statistics.recorder import Recorder


def record(recorder: Recorder, gramian: Gramian, weights: Mapping[str, Tensor | float]) -> Gramian:
    """Record norms, shares and cosines of the weighted terms' gradients; return the Gramian of the weighted terms.

    Of a gradient that is not finite nothing is recorded: the policy for gradients that are not finite tells of it.
    """
    factors = torch.stack([torch.as_tensor(weights[name]).detach() for name in gramian.names]).to(gramian.matrix)
    matrix = gramian.matrix * torch.outer(factors, factors)
    norms = matrix.diagonal().clamp_min(0).sqrt()
    named = {f"{tags.GRADIENT}/{name}": norm for name, norm in zip(gramian.names, norms, strict=True)}
    shares = norms / torch.where(norms.sum() == 0, 1, norms.sum())
    named |= {f"{tags.GRADIENT_SHARE}/{name}": share for name, share in zip(gramian.names, shares, strict=True)}
    for k, row in enumerate(cosines(matrix)):
        for other in range(k + 1, len(row)):
            named[f"{tags.COSINE}/{tags.of_pair(gramian.names[k], gramian.names[other])}"] = row[other]
    finite = matrix.isfinite().all()
    for name, value in named.items():
        recorder.accumulate(name, torch.where(finite, value, 0), finite, replicated=distributed.world_size() > 1)
    return Gramian(gramian.names, matrix)


def cosines(matrix: Tensor) -> Tensor:
    """Return the cosines of a Gramian, 0 for a gradient of 0.

    >>> cosines(torch.tensor([[4.0, -6.0, 0.0], [-6.0, 9.0, 0.0], [0.0, 0.0, 0.0]]))
    tensor([[ 1., -1.,  0.],
            [-1.,  1.,  0.],
            [ 0.,  0.,  0.]])
    """
    norms = matrix.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(norms == 0, 0, 1 / norms)
    return (matrix * torch.outer(inverse, inverse)).clamp(-1, 1)
