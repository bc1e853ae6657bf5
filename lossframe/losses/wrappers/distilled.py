"""Adds to a loss of class scores the distance to what a teacher predicts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn

from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.recording import recording
from lossframe.losses.base.reduction import align
from lossframe.losses.wrappers.wrapper import Wrapper


class Distilled(Wrapper):
    r"""Another loss, mixed with a teacher's softened scores: $(1 - \alpha)\, \ell + \alpha\, T^2 \sum_c q_c \log
    \frac{q_c}{p_c}$.

    $p = \mathrm{softmax}(z / T)$ of the student's scores, the first input of the wrapped loss, `[N, C, ...]`, and
    $q = \mathrm{softmax}(t / T)$ of the teacher's, an input `teacher_logits` of that shape without gradient. $T$ is
    `temperature`, $\alpha$ is `alpha`. A `teacher` module is called instead with the input `inputs`, without gradient
    and always in evaluation mode, and returns the scores, or a mapping with `logits`; its parameters are frozen.
    The wrapped loss has one value per sample or position, as `CrossEntropyLoss`, and what it does not count,
    such as ignored targets, does not count here either. Records the two parts as `hard` and `soft`.
    Source: Hinton (2015), https://arxiv.org/abs/1503.02531.

    >>> from lossframe.losses import CrossEntropyLoss
    >>> criterion = Distilled(CrossEntropyLoss(), temperature=2.0, alpha=0.5)
    >>> logits, teacher_logits = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> criterion(logits, torch.tensor([0]), teacher_logits)
    tensor(0.9877)
    """

    def __init__(
        self,
        loss: Loss,
        temperature: float = 4.0,
        alpha: float = 0.5,
        teacher: nn.Module | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(loss, **options)
        if loss.relational:
            raise InputError(
                f"Distilled: wanted a loss with a value per sample that depends on it alone, as CrossEntropyLoss(), "
                f"found a {type(loss).__name__}; add a term of its own instead"
            )
        if teacher is not None and not isinstance(teacher, nn.Module):
            raise InputError(f"Distilled: wanted teacher as a module, found {type(teacher).__name__}")
        self.temperature = checks.positive(temperature=temperature)
        self.alpha = checks.fraction(alpha=alpha)
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()
        further = "teacher_logits" if teacher is None else "inputs"
        if further in loss.reads:
            raise InputError(f"Distilled: wanted a loss without an input {further!r}, found {type(loss).__name__}")
        self.reads = (*loss.reads, further)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of the loss, and leave the teacher in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def check(self, *args: Any, teacher_logits: Any, **inputs: Any) -> None:
        """Require of the teacher the scores' shape, and what the wrapped loss requires."""
        super().check(**inputs)
        scores = inputs[self.wrapped.reads[0]]
        checks.dimensions("[N, C, ...]", 2, None, **{self.wrapped.reads[0]: scores})
        if not isinstance(teacher_logits, Tensor):
            raise InputError(f"wanted teacher_logits as a tensor, found {type(teacher_logits).__name__}")
        checks.floating(teacher_logits=teacher_logits)
        checks.same_shape(**{self.wrapped.reads[0]: scores, "teacher_logits": teacher_logits})

    def check_values(self, *args: Any, teacher_logits: Tensor, **inputs: Any) -> None:
        """Require what the wrapped loss requires of the values."""
        self.wrapped.check_values(**inputs)

    def counts(self, *args: Any, teacher_logits: Tensor, **inputs: Any) -> Tensor | None:
        """Return the counts of the wrapped loss."""
        return self.wrapped.counts(**inputs)

    def carried_weight(self, *args: Any, teacher_logits: Tensor, **inputs: Any) -> Tensor | None:
        """Return the weight that the values of the wrapped loss contain."""
        return self.wrapped.carried_weight(**inputs)

    def update(self, *args: Any, teacher_logits: Tensor, **inputs: Any) -> None:
        """Update the state of the wrapped loss."""
        self.wrapped.update(**inputs)

    def loss(self, *args: Any, teacher_logits: Any, **inputs: Any) -> Tensor:
        """Return one value per sample or position."""
        hard, scores = self.wrapped.loss(**inputs), inputs[self.wrapped.reads[0]]
        q = (teacher_logits.detach().to(scores.dtype) / self.temperature).softmax(1)
        log_p = (scores / self.temperature).log_softmax(1)
        soft = self.temperature**2 * nn.functional.kl_div(log_p, q, reduction="none").sum(1)
        if hard.shape != soft.shape:
            wanted = f"wanted values {list(soft.shape)} of the wrapped {type(self.wrapped).__name__}"
            raise InputError(f"{wanted}, found {list(hard.shape)}; it has to give one value per sample or position")
        counted = self._counted(hard, self.wrapped.counts(**inputs))
        for name, values in (("hard", hard), ("soft", soft)):
            self.log(name, values, counted)
        return (1 - self.alpha) * hard + self.alpha * soft

    def _counted(self, values: Tensor, counts: Tensor | None) -> Tensor | float:
        """Return 0 for values without a count or a weight, which may be NaN, and 1 for others."""
        outermost = recording(self)
        weight = outermost.weight if isinstance(outermost, Wrapper) else None
        given = [counts, None if weight is None else align(weight, values)]
        found = [(each != 0).expand_as(values) for each in given if each is not None]
        return torch.stack(found).all(0) if found else 1

    def prepared(self, batch: Batch) -> Batch:
        """Return a batch with the scores of the teacher."""
        if self.teacher is None:
            return super().prepared(batch)
        inputs = dict(batch.inputs)
        with torch.no_grad():
            scores = self.teacher(inputs.pop("inputs"))
        if isinstance(scores, Mapping):
            if "logits" not in scores:
                raise InputError(f"wanted 'logits' in the teacher's result, found {sorted(map(str, scores))}")
            scores = scores["logits"]
        return super().prepared(replace(batch, inputs={**inputs, "teacher_logits": scores}))
