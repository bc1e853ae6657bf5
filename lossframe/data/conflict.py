"""Provides two made-up regressions that one number cannot both predict, and whose values differ in scale."""

from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from lossframe.counts import check_counts
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.samplers import shuffled
from lossframe.errors import InputError


class ConflictingTasks(InMemoryData):
    r"""Draws $x \sim N(0, I)$ and two targets, $y_k = s_k (\sqrt{1 - \nu} u_k \cdot x + \sqrt\nu \epsilon_k)$.

    $u_1$ and $u_2$ are unit vectors with $u_1 \cdot u_2 = \rho$, `cosine`; $\nu$ is `noise`, the share of the variance
    that nothing predicts; $s_1 = 1$ and $s_2$ is `scale`. Provides `inputs` float32 [B, `num_inputs`], `first_target`
    and `second_target` float32 [B], `target` [B, 2], both, and `index`; everything depends on the seed only.

    A model that predicts both from one number $w \cdot x$ fits one at the cost of the other. The mean over both tasks
    of the squared error over the target's variance is at least $\nu + (1 - \nu)(1 - |\rho|) / 2$, where $w$ halves the
    angle between $u_1$ and $\pm u_2$.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"first_target", "index", "inputs", "second_target", "target"})

    def __init__(
        self, num_inputs: int = 20, size: int = 5000, cosine: float = 0.5, noise: float = 0.1, scale: float = 10.0,
        **options: Unpack[DataOptions],
    ) -> None:  # fmt: skip
        options.setdefault("sampler", shuffled)
        super().__init__(**options)
        check_counts(self, least=2, num_inputs=num_inputs)
        check_counts(self, least=10, size=size)
        if not (-1 <= cosine <= 1 and 0 <= noise < 1 and 0 < scale < inf):
            raise InputError(
                "ConflictingTasks: wanted cosine from -1 to 1, noise from 0 to below 1 and scale above 0, found "
                f"cosine={cosine}, noise={noise} and scale={scale}"
            )
        self.num_inputs = num_inputs
        self.size = size
        self.cosine = cosine
        self.noise = noise
        self.scale = scale

    def load(self) -> dict[str, Tensor]:
        """Draw the inputs, two directions and the targets."""
        generator = np.random.default_rng(self.seed)
        basis = np.linalg.qr(generator.standard_normal((self.num_inputs, 2)))[0]
        mixed = np.array([[1.0, self.cosine], [0.0, (1 - self.cosine**2) ** 0.5]])
        inputs = generator.standard_normal((self.size, self.num_inputs))
        noise = generator.standard_normal((self.size, 2))
        clean = inputs @ basis @ mixed
        target = ((1 - self.noise) ** 0.5 * clean + self.noise**0.5 * noise) * np.array([1.0, self.scale])
        first, second = torch.from_numpy(target).float().unbind(1)
        return {
            "inputs": torch.from_numpy(inputs).float(),
            "first_target": first,
            "second_target": second,
            "target": torch.stack([first, second], dim=1),
        }

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of inputs."""
        return {"num_inputs": frame["inputs"].shape[1]}
