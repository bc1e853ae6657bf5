"""Adapters of the scalarizers and the weightings of TorchJD, https://torchjd.org."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.objectives.progress import Progress
from lossframe.objectives.weighting.balanced import Balanced
from lossframe.objectives.weighting.base import Weighting


class Scalarized(Weighting):
    """Combines the terms, times their configured weights, by a scalarizer of TorchJD.

    `scalarizer` names a class of `torchjd.scalarization` whose result depends on values and parameters alone, and
    `options` are its arguments. Its parameters hold a number for each term, and are trained with the model: a term that
    takes no part leaves its own as they are.
    """

    def __init__(self, configured: Mapping[str, float], scalarizer: str, **options: Any) -> None:
        super().__init__(configured)
        checks.positive(mu=options.get("mu", 1.0))  # TorchJD accepts infinity
        self.scalarizer = made("torchjd.scalarization", scalarizer, options, {"shape": len(self.configured)})

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return what the scalarizer makes of the weighted terms."""
        values = torch.stack([self.configured[name] * value for name, value in terms.items()])
        order = list(self.configured)
        chosen = [order.index(name) for name in terms]
        parameters = {name: parameter[chosen] for name, parameter in self.scalarizer.named_parameters()}
        total: Tensor = functional_call(self.scalarizer, parameters, (values,))
        return total


class RandomWeights(Balanced):
    """Draws the weights anew in each step, as the softmax of normal numbers (TorchJD's `Random`; Lin et al. 2022).

    https://arxiv.org/abs/2111.10603. The draw depends on `seed` and the number of the step alone.
    """

    steps: Tensor

    def __init__(self, configured: Mapping[str, float], seed: int = 0) -> None:
        super().__init__(configured)
        self.seed = checks.at_least(0, seed=seed)
        self.scalarizer = made("torchjd.scalarization", "Random", {})
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the derivatives of the scalarizer's result, which is linear."""
        ones = torch.ones(len(terms), dtype=torch.float64, requires_grad=True)
        with drawn(self.seed, self.steps), torch.enable_grad():
            (weights,) = torch.autograd.grad(self.scalarizer(ones), ones)
        return weights


class GramianWeights(Balanced):
    """Weighs terms by the inner products of their gradients, as a weighting of TorchJD does.

    `method` names a class of `torchjd.aggregation` that reads a Gramian, and `options` are its arguments. The Gramian
    is scaled to a mean diagonal of 1 first, so that the size of gradients, which depends on the place and on the
    batch, does not reach the learning rate. Random orders depend on `seed` and the number of the step alone.
    """

    needs_gramian = True
    steps: Tensor

    def __init__(self, configured: Mapping[str, float], method: str, seed: int = 0, **options: Any) -> None:
        super().__init__(configured)
        self.seed = checks.at_least(0, seed=seed)
        checks.not_negative(alpha=options.get("alpha", 0.0))  # TorchJD checks neither
        checks.one_of("scale_mode", options.get("scale_mode", "min"), ("min", "median", "rmse"))
        self.method = made("torchjd.aggregation", f"{method}Weighting", options)
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that the method gives the scaled Gramian."""
        with drawn(self.seed, self.steps):
            weights: Tensor = self.method(gramian / gramian.diagonal().mean())
        return weights

    def update(self, terms: Mapping[str, Tensor], gramian: Tensor | None, progress: Progress) -> None:
        """Renew the weights; a single term has nothing to be balanced with, and keeps its weight."""
        if len(terms) > 1:
            super().update(terms, gramian, progress)


class drawn:  # noqa: N801 - a context manager is read as a word of the statement
    """Makes torch's random numbers on the CPU those of a seed and a step, which is counted; restores them after."""

    def __init__(self, seed: int, steps: Tensor) -> None:
        self._seed, self._steps = seed, steps

    def __enter__(self) -> None:
        self._before = torch.get_rng_state()
        torch.default_generator.manual_seed((self._seed << 32) + int(self._steps))
        self._steps += 1

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._before)


def made(module: str, name: str, options: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> nn.Module:
    """Make an object of TorchJD, or raise an `InputError` that says what is missing or wrong.

    `sizes` are arguments that are given if the class takes them.
    """
    try:
        kind = getattr(importlib.import_module(module), name)
        takes = kind.__init__.__code__.co_varnames
        found: nn.Module = kind(**{key: n for key, n in (sizes or {}).items() if key in takes}, **options)
    except ImportError as error:
        raise InputError(
            f"{name} is TorchJD's, and something is missing: pip install lossframe[balance] ({error})"
        ) from error
    except AttributeError as error:
        parameter = "scalarizer" if module.endswith("scalarization") else "method"
        chosen = name.removesuffix("Weighting")
        raise InputError(f"{parameter}={chosen}: {module} has no {name}; choose a class that it has") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} of TorchJD: {error}") from error
    return found
