"""Weighs terms with numbers from the configuration."""

from collections.abc import Mapping

from torch import Tensor

from lossframe.objectives.weighting.base import Weighting


class Fixed(Weighting):
    r"""Multiplies each term by a number, $\sum_k w_k L_k$; `objective.weights[TERM]` changes it between steps."""

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the current weight of each term."""
        return self.configured
