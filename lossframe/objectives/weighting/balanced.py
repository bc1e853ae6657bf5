"""Base class of weightings that learn their weights from the values or the gradients of the terms."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lossframe.objectives.progress import Progress
from lossframe.objectives.weighting.base import Weighting


class Balanced(Weighting):
    r"""Abstract base: total $\sum_k p_k b_k L_k$ of configured weights $p_k$ and balanced weights $b_k$, at first 1.

    `update` renews the balanced weights in each training step; an evaluation uses the last ones. A subclass defines
    `balance`. A step whose terms or gradients are not finite changes no state, and uses the last weights. Where
    gradients are needed, so does a term whose gradient is 0: it is no part of the balance of this step.
    """

    balanced: Tensor

    def __init__(self, configured: Mapping[str, float]) -> None:
        super().__init__(configured)
        self.register_buffer("balanced", torch.ones(len(self.configured), dtype=torch.float64))

    @abstractmethod
    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the balanced weights of some terms, by position, from their values `[k]` and Gramian `[k, k]`.

        Both are float64 without gradient. The Gramian is empty unless `needs_gramian`.
        """

    def follow(self, progress: Progress) -> None:
        """Look at the progress of training, before the terms of a step are balanced."""

    def update(self, terms: Mapping[str, Tensor], gramian: Tensor | None, progress: Progress) -> None:
        """Renew the balanced weights of the terms of one training step."""
        self.follow(progress)
        order = list(self.configured)
        chosen = [order.index(name) for name in terms]
        values = torch.stack([value.detach() for value in terms.values()]).double()
        if gramian is None:
            self._renew(chosen, values, values.new_empty(0), values.isfinite().all())
            return
        gramian, values = gramian.cpu(), values.cpu()  # one wait for the device: the solvers are on the CPU
        if not (gramian.isfinite().all() and values.isfinite().all()):
            return
        live = (gramian.diagonal() > 0).nonzero().flatten().tolist()
        if live:
            self._renew([chosen[k] for k in live], values[live], gramian[live][:, live], torch.tensor(True))

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the configured weight of each term times its balanced one."""
        order = list(self.configured)
        current = dict(zip(order, self.balanced.clone().unbind(), strict=True))  # a later step changes the buffer
        return {name: (self.configured[name] * current[name]).to(value.dtype) for name, value in terms.items()}

    def priors(self, terms: Sequence[int]) -> Tensor:
        """Return the configured weights of some terms, by position."""
        numbers = list(self.configured.values())
        return torch.tensor([numbers[k] for k in terms], dtype=torch.float64)

    @torch.no_grad()
    def _renew(self, terms: Sequence[int], values: Tensor, gramian: Tensor, usable: Tensor) -> None:
        """Balance some terms, and keep all state as it was unless the values are usable; does not wait for a device."""
        held = [(buffer, buffer.clone()) for buffer in self.buffers()]
        weights = self.balance(terms, values, gramian)
        self.balanced[list(terms)] = weights.to(self.balanced)
        for buffer, before in held:
            buffer.copy_(torch.where(usable.to(buffer.device), buffer, before))


class Adam(nn.Module):
    """Descends along gradients of some numbers of a buffer, as Kingma & Ba (2015); its state is in buffers."""

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, size: int, lr: float) -> None:
        super().__init__()
        self.lr = lr
        for name in ("mean", "square", "steps"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def descend(self, numbers: Tensor, chosen: Sequence[int], gradient: Tensor, moving: Tensor | bool = True) -> None:
        """Change the chosen numbers in place by one step, those of them that are `moving`."""
        chosen, moving = list(chosen), torch.as_tensor(moving, device=self.mean.device)
        gradient = torch.where(moving, gradient.to(self.mean), 0)
        decays = torch.where(moving, self.mean.new_tensor([[0.9], [0.999]]), 1.0)
        self.steps[chosen] += moving.to(self.steps)
        self.mean[chosen] = decays[0] * self.mean[chosen] + (1 - decays[0]) * gradient
        self.square[chosen] = decays[1] * self.square[chosen] + (1 - decays[1]) * gradient.square()
        steps = self.steps[chosen].clamp_min(1)
        mean, square = self.mean[chosen] / (1 - 0.9**steps), self.square[chosen] / (1 - 0.999**steps)
        numbers[chosen] -= torch.where(moving, self.lr * mean / (square.sqrt() + 1e-8), 0).to(numbers)
