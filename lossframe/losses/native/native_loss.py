"""`NativeLoss` wraps any callable or `nn.Module` criterion as a `Loss`, and evaluates those of `torch.nn` unreduced."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lossframe import distributed
from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.losses.base.inputs import Batch, first_batched
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.reduction import Reduced, Weighed
from lossframe.losses.base.tracing import is_readable, is_transformed
from lossframe.losses.base.wanted import criterion_remedy
from lossframe.losses.native import criteria, results, verification
from lossframe.losses.native.signature import arguments


class NativeLoss(Loss):
    """Makes any other loss one of ours: a callable or module of any number of inputs, whose parameters name them.

    A parameter with a default is an optional input; `weight`, `reduction` and what `functools.partial` has bound are no
    inputs. A first input called `input`, `y_pred`, `pred`, `x` or `p` with a second called `target`, `y_true`, `y` or
    `t` are `prediction` and `target`; two inputs have these names in addition to their own. `reads` names the inputs of
    a callable without a signature, or renames them. A parameter `log_val`, or `log` without a default, gets `log`.

    The callable may return a scalar, values of any shape, or a mapping or named tuple of these: the loss is then its
    `loss`, or else its `total`, or else the sum, and `log` records the others. `(loss, mapping)` is read alike, and
    `returns` names the members of any other tuple.

    `relational=True` (the default) makes no assumption: on N ranks the callable sees the whole batch. Criteria and
    losses of `torch.nn` (no subclass of them) are recognised, and are evaluated unreduced on each rank's own samples.
    So is any criterion with a `reduction` if `unreduced=True` states that its values depend on one sample each; the
    first calls verify this. Of any other callable, a scalar is recorded as the mean of its batch: as many values as the
    first input has samples, or `count` of the call.

    Coming from babilim `NativeLossWrapper`: the same, and exact on any number of ranks.

    >>> import torch
    >>> criterion = NativeLoss(nn.MSELoss())
    >>> criterion(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    >>> criterion.avg
    {'loss': 2.0}
    >>> NativeLoss(nn.TripletMarginLoss()).reads
    ('anchor', 'positive', 'negative')
    >>> elbo = NativeLoss(lambda error, kl: {"error": error.square().mean(), "kl": kl.mean()})
    >>> elbo(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
    tensor(5.5000)
    >>> elbo.avg
    {'error': 5.0, 'kl': 0.5, 'loss': 5.5}
    """

    _exactly: bool
    _result: Tensor | None
    _count: Tensor | float | None

    def __init__(
        self,
        loss: Callable[..., Any],
        relational: bool = True,
        reads: Sequence[str] | None = None,
        returns: Sequence[str] | None = None,
        unreduced: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        if remedy := criterion_remedy(loss):
            raise InputError(f"NativeLoss {remedy}")
        self.arguments = read = arguments(loss, reads)
        self.reads, self.optional, self.synonyms = read.reads, read.optional, read.synonyms
        self.returns = returns
        self.native = criteria.of_function(loss)
        self.recognised = criteria.recognised(self.native)
        self.relational = relational and self.recognised is None and not unreduced
        self._verification: verification.Verification | None = None
        self._reduces: Any = None
        self._reset()
        if self.recognised is not None:
            self._evaluate_unreduced(self.native, self.recognised)
        elif unreduced:
            self._verify_unreduced(loss)

    def _verify_unreduced(self, loss: Any) -> None:
        """Let a criterion of another library return values, and verify them in the first calls."""
        self.native = verification.unreduced(loss)
        self._verification = verification.Verification(loss)
        self._reduce_like(verification.reduction_of(loss))

    def _evaluate_unreduced(self, loss: Any, criterion: criteria.Criterion) -> None:
        """Let torch's criterion return values, and reduce them here as torch would."""
        self.native, self.core_dims = criteria.unreduced(loss), criterion.core_dims
        self.native_reduction = getattr(loss, "reduction", "mean")
        if self.native_reduction == "batchmean":
            self.core_dims = None
        self.weighs_classes = type(loss) in criteria.OF_CLASS_INDICES and self.native_reduction != "none"
        if type(loss) in criteria.OF_CLASS_INDICES:
            self.class_inputs = frozenset(["target"])
        self._reduce_like(self.native_reduction)
        in_torch = "sum" if self.native_reduction == "sum" else "mean"
        by_torch = self.native_reduction == "batchmean" or criterion.by_rows
        if self.native_reduction != "none" and self.reduction == in_torch and by_torch:
            self._reduces = loss

    def _reduce_like(self, reduction: str) -> None:
        if reduction == "sum" and self.reduction != "none":
            self.reduction = "sum"

    def check(self, *args: Any, **inputs: Any) -> None:
        """Require equal shapes for an elementwise criterion; of others, refuse what would only be broadcast."""
        if self.recognised is not None and self.recognised.same_shape:
            checks.same_shape(**{name: inputs[name] for name in self.reads[:2]})
        if self.recognised is None or not self.recognised.checks_shapes:
            super().check(**inputs)
        if self.relational and distributed.world_size() > 1:
            _check_gathered(inputs)

    def check_values(self, *args: Any, **inputs: Any) -> None:
        """Verify in the first calls what `unreduced=True` states."""
        if self._verification is not None and self._verification.left and not is_transformed():
            self._verification(self._alone(self.native, inputs), inputs, self._alone)

    def loss(self, *args: Any, **inputs: Any) -> Tensor:
        """Return the callable's loss, a scalar or values, and log further values that the callable returns."""
        inputs = dict(zip(self.reads, args, strict=False)) | inputs
        if self._exactly and self._reduces is not None:
            native, self._result = criteria.evaluated(self.native, self._reduces, inputs)
        elif type(self.native) is nn.CTCLoss and self.recognised and not inputs[self.reads[0]].shape[1:2].numel():
            native = inputs[self.reads[0]].sum((0, 2))  # torch refuses an empty batch
        else:
            native = self.arguments.call(self.native, inputs, self.log)
        if self.recognised is not None:
            return criteria.values(self.native, native, inputs, self.native_reduction)
        found, further = results.read(native, self.returns)
        for name, value in further.items():
            self.log(name, value, 1 if getattr(value, "ndim", 0) else self._number(inputs))
        return found  # type: ignore[no-any-return]

    def counts(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the class weight of each target, 0 for ignored ones, where torch's "mean" divides by their sum."""
        weighs = self.recognised is not None and self.weighs_classes
        return criteria.class_weights(self.native, inputs["target"]) if weighs else None

    def _number(self, inputs: Mapping[str, Any]) -> Tensor | float:
        """Return how many values a single number stands for."""
        first = first_batched(inputs)
        return self._count if self._count is not None else 1.0 if first is None else float(len(first))

    def _evaluate(self, batch: Batch) -> Tensor:
        """Evaluate a batch, on a CPU also by torch's own reduction: the sums of both differ in the last digit."""
        alone = batch.weight is None and batch.count is None and distributed.world_size() == 1
        self._exactly = alone and batch.on_cpu and self._reduces is not None and self._compiled is None
        self._count = batch.count
        try:
            return super()._evaluate(batch)
        finally:
            self._reset()

    def _reset(self) -> None:
        """Forget what belongs to one call."""
        self._exactly, self._result, self._count = False, None, None

    def _alone(self, native: Any, inputs: Mapping[str, Any]) -> Any:
        """Return the loss of another callable with the same parameters, without logging."""
        return results.read(self.arguments.call(native, inputs, lambda *args: None), self.returns)[0]

    def _reduced(self, weighed: Weighed, carried: Tensor | None, batch: Batch) -> Reduced:
        """Reduce the values; where torch has done so, return its result, unless that is a mean of nothing."""
        reduced = super()._reduced(weighed, carried, batch)
        if self._result is None or not weighed.values.numel() or not reduced.denominator:
            return reduced
        return reduced._replace(result=self._result)

    def _samples(self, values: Tensor, batch: Batch) -> Tensor | float:
        """Return 1 for a recognised criterion: a scalar is then the value of an input without a batch dimension."""
        if self.recognised is not None and batch.count is None:
            return 1.0
        samples = super()._samples(values, batch)
        of_classes = (nn.CrossEntropyLoss, *criteria.OF_CHUNKS)
        if batch.count is not None or values.ndim or type(self.native) not in of_classes:
            return samples
        weights = criteria.class_weights(self.native, batch.inputs["target"])
        if weights is None:
            return samples
        total = weights.sum()
        return total.item() if is_readable(total) else total


def _check_gathered(inputs: Mapping[str, Any]) -> None:
    """Raise an `InputError` for inputs that mean something else once the samples of all ranks are one batch."""
    if inputs.get("indices_tuple") is not None:
        raise InputError(
            "indices_tuple holds rows of this rank's batch, but the loss sees the batch of all ranks; call the miner "
            "inside the callable, as in `def loss(embeddings, labels): return criterion(embeddings, labels, "
            "miner(embeddings, labels))`"
        )
    for name, value in inputs.items():
        for leaf in pytree.tree_leaves(value):
            if hasattr(leaf, "__array__") and not isinstance(leaf, Tensor) and np.ndim(leaf):
                raise InputError(f"wanted tensors in {name}, found an array, which ranks do not gather; convert it")
