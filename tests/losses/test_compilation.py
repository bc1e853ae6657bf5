"""Losses inside a compiled step, and losses that compile their own formula."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from lossframe import InputError, Loss, Objective, losses
from lossframe.callbacks.monitor.discovery import keep_samples
from lossframe.losses import BatchAllTripletLoss, CenterLoss, CrossEntropyLoss, L1L2Penalty, MSELoss
from lossframe.statistics.recorder import Recorder

of_torch = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning")


class Logging(Loss):
    """Logs a number, and a tensor that has a gradient, on the way."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.log("three", 3.0)
        self.log("largest", prediction.amax(1))
        return (prediction - target).square()


class Step(nn.Module):
    """A layer and what is made of it: an objective or one loss."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.criterion = nn.Linear(4, 3), criterion

    def forward(self, inputs: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        out = self.layer(inputs)
        if isinstance(self.criterion, Objective):
            return self.criterion({"embeddings": out, "features": out, "labels": labels}) * 2
        if isinstance(self.criterion, L1L2Penalty):
            return self.criterion(self.layer) + out.sum()
        classes = not isinstance(self.criterion, MSELoss | Logging)
        return self.criterion(out, labels if classes else target) * 2


def trained(step: Step, call: Callable[..., Tensor], steps: int = 12) -> list[Any]:
    """Return the values of some steps, the gradients that they leave, and what is remembered."""
    generator, values, samples = torch.Generator().manual_seed(0), [], []
    losses = {name: loss for name, loss in step.named_modules() if isinstance(loss, Loss)}
    keep_samples(losses)
    for _ in range(steps):
        inputs, target = (torch.randn(8, n, generator=generator) for n in (4, 3))
        value = call(inputs, target, torch.randint(0, 3, (8,), generator=generator))
        value.backward()
        values.append(value.detach())
        samples += [loss.samples.values for loss in losses.values()]  # type: ignore[union-attr]
    recorders = {name: module.moments() for name, module in step.named_modules() if isinstance(module, Recorder)}
    seen = {name: {term: moments.numbers for term, moments in read.items()} for name, read in recorders.items()}
    return [values, [parameter.grad for parameter in step.parameters()], samples, seen]


@of_torch
@pytest.mark.parametrize(
    "make",
    [BatchAllTripletLoss, MSELoss, lambda: CrossEntropyLoss(ignore_index=1), lambda: L1L2Penalty(l2=0.1), Logging,
     lambda: Objective({"triplet": BatchAllTripletLoss(), "center": CenterLoss(3, 3)})],
)  # fmt: skip
def test_compiled_step_records_what_an_eager_one_records(make: Callable[[], nn.Module]) -> None:
    torch._dynamo.reset()
    eager, compiled = Step(make()), Step(make())
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = trained(compiled, torch.compile(compiled, backend="eager"))
    torch.testing.assert_close(found, trained(eager, eager), rtol=0, atol=0)


@of_torch
def test_values_logged_by_a_compiled_step_are_recorded() -> None:
    torch._dynamo.reset()
    criterion = MSELoss()

    def step(inputs: Tensor) -> Tensor:
        criterion.log("input", inputs)
        return inputs + 1

    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = torch.compile(step, backend="eager")
        assert [compiled(torch.full((2,), k)).tolist() for k in (1.0, 2.0)] == [[2, 2], [3, 3]]
    assert criterion.avg == {"input": 1.5}


@of_torch
def test_losses_of_one_compiled_step_cause_no_recompilation() -> None:
    torch._dynamo.reset()
    mse, cross_entropy, triplet = MSELoss(), CrossEntropyLoss(), BatchAllTripletLoss(log_std=True)

    def step(out: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        return mse(out * 2, target=target) + cross_entropy(out, labels, weight=target[:, 0]) + triplet(out, labels)

    compiled = torch.compile(step, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows in (8, 9, 10):
            inputs = torch.rand(rows, 3), torch.rand(rows, 3), torch.arange(rows) % 3
            assert compiled(*inputs).item() == step(*inputs).item()


@of_torch
def test_error_in_a_compiled_step_names_the_loss() -> None:
    torch._dynamo.reset()
    criterion = CrossEntropyLoss()
    compiled = torch.compile(lambda scores, labels: criterion(scores * 2, labels), backend="eager")
    with pytest.raises(InputError, match=r"^CrossEntropyLoss: .*from 0 to 2"):
        compiled(torch.zeros(2, 3), torch.tensor([0, 3]))


@of_torch
@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_formula_is_one_graph_and_records_logged_values(inside: bool) -> None:
    torch._dynamo.reset()
    counters.clear()
    eager, compiled = Step(Logging()), Step(Logging(compile=True))
    call = torch.compile(compiled, backend="eager") if inside else compiled
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = trained(compiled, call)
    torch.testing.assert_close(found, trained(eager, eager))
    assert counters["stats"]["unique_graphs"] == (3 if inside else 1)  # the step's are before and after the loss


@of_torch
@pytest.mark.slow
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "FocalLoss"])
def test_compiled_values_equal_eager_ones(name: str) -> None:
    logits, target = torch.randn(20, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 4, (20,))
    eager, compiled = (getattr(losses, name)(compile=option) for option in (False, True))
    for rows in (20, 7):
        found, wanted = compiled(logits[:rows], target[:rows]), eager(logits[:rows], target[:rows])
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(found, logits), torch.autograd.grad(wanted, logits), rtol=1e-12, atol=1e-12
        )
    assert compiled.avg == pytest.approx(eager.avg)


@of_torch
@pytest.mark.slow
@pytest.mark.parametrize("shape", [(50, 300), (2, 19, 5, 5)])
def test_compiled_cross_entropy_is_stable_and_leaves_out_ignored_targets(shape: tuple[int, ...]) -> None:
    torch._dynamo.reset()
    logits = 1000 + 100 * torch.randn(shape)
    logits[0, 2] = -torch.inf
    target = torch.randint(3, shape[1], (shape[0], *shape[2:]))
    target[-1] = 1
    wanted, found = (logits.to(dtype).requires_grad_() for dtype in (torch.float64, torch.float32))
    values = [
        losses.CrossEntropyLoss(ignore_index=1, compile=scores is found)(scores, target) for scores in (wanted, found)
    ]
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-6)
    gradients = [torch.autograd.grad(value, scores)[0] for value, scores in zip(values, (wanted, found), strict=True)]
    torch.testing.assert_close(gradients[1].double(), gradients[0], rtol=1e-4, atol=1e-8)
    assert not gradients[1][-1].any()


@of_torch
def test_missing_compiler_is_an_input_error_that_names_it() -> None:
    torch._dynamo.reset()
    criterion = losses.HuberLoss(delta=0.123, compile=True)
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler"), "fx_graph_cache": False}),
        pytest.raises(InputError, match=r"^HuberLoss: compile=True wants .* a C\+\+ compiler; found: .*no/such"),
    ):
        criterion(torch.zeros(3), torch.ones(3))
