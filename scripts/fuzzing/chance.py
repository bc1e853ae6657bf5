"""Random numbers of one case: choices, sizes, and tensors whose values are of every kind."""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Choice = TypeVar("Choice")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
KINDS = ("normal", "normal", "scaled", "mixed", "denormal", "ties", "zeros", "offset", "special")
SPECIAL = (math.nan, math.inf, -math.inf)


class Chance:
    """Draws everything that one case consists of, from a seed and the number of the case alone."""

    def __init__(self, seed: int, number: int) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.generator = torch.Generator().manual_seed(self.random.getrandbits(62))

    def choose(self, *choices: Choice) -> Choice:
        """Return one of the choices."""
        return self.random.choice(choices)

    def often(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.random.random() < probability

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return normal numbers in float64."""
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.float64)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return numbers from 0 to 1 in float64."""
        return torch.rand(tuple(shape), generator=self.generator, dtype=torch.float64)

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Return integers from `low` up to, and without, `high`."""
        return torch.randint(low, max(high, low + 1), tuple(shape), generator=self.generator)

    def numbers(self, shape: Sequence[int], dtype: torch.dtype, kind: str) -> Tensor:
        """Return numbers of one kind, rounded to a dtype; all but "special" are finite."""
        info, x = torch.finfo(dtype), self.normal(shape)
        scales = [s for s in (1e-30, 1e-20, 1e-10, 1e-3, 1e3, 1e10, 1e20, 1e30) if 1e-8 / info.max < s < info.max / 100]
        match kind:
            case "scaled":
                x = x * self.choose(*scales)
            case "mixed":
                x = x * torch.tensor(scales, dtype=torch.float64)[self.integers(0, len(scales), shape)]
            case "denormal":
                x = x * max(info.smallest_normal, 1e-38) / 8  # squares of float64's own leave the reference's range
            case "ties":
                x = x.round()
            case "zeros":
                x = torch.where(self.uniform(shape) < 0.7, 0.0, x)
            case "offset":
                x = x + self.choose(1e3, 1e3, 1e6 if dtype == torch.float32 else 1e2)
            case "special":
                x = self.with_special(x)
        return x.to(dtype)

    def with_special(self, x: Tensor) -> Tensor:
        """Return the numbers with NaN or infinity in a few places."""
        return torch.where(self.uniform(x.shape) < 0.15, self.choose(*SPECIAL), x)
