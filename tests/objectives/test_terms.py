"""What stands where a loss, a weight, a wiring, a frame or a state is wanted is refused, with a remedy that works."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from lossframe import InputError, Learner, Loss, NativeLoss, Objective
from lossframe.losses import CenterLoss, DeCovLoss, L1Loss, MSELoss, SupConLoss
from lossframe.objectives.weighting import Weighting

FRAME = {"prediction": torch.tensor([1.0, 3.0]), "target": torch.zeros(2)}

NO_LOSS: dict[str, tuple[Any, str, str | None]] = {
    "class of a loss": (MSELoss, "is the class MSELoss; wanted a Loss: call the class, MSELoss(...)", "MSELoss()"),
    "class of a module": (nn.MSELoss, "wrap the result, NativeLoss(MSELoss(...))", "NativeLoss(nn.MSELoss())"),
    "module": (nn.MSELoss(), "is a MSELoss; wanted a Loss: wrap it in NativeLoss(...)", "NativeLoss(found)"),
    "function": (nn.functional.mse_loss, "wrap it in NativeLoss(...)", "NativeLoss(found)"),
    "partial of a function": (partial(nn.functional.huber_loss, delta=2.0), "wrap it in", "NativeLoss(found)"),
    "partial of a loss": (partial(MSELoss, log_std=True), "call the partial, MSELoss(...)", "found()"),
    "partial of a module": (partial(nn.MSELoss), "call the partial and wrap the result", "NativeLoss(found())"),
    "None": (None, "is None; wanted a Loss: leave out the term", None),
    "dict with a target": ({"_target_": "lossframe.losses.MSELoss"}, "hydra.utils.instantiate", "made(found)"),
    "config": (OmegaConf.create({"_target_": "lossframe.losses.MSELoss"}), "hydra.utils.instantiate", "made(found)"),
    "dict of numbers": ({"num_classes": 10}, "a mapping of 'num_classes' without _target_; wanted a Loss", None),
    "objective": (Objective({"l1": L1Loss()}), "add the losses of the nested objective", "found.losses['l1']"),
    "number": (1, "is 1, of type int; wanted a Loss: pass a loss", "MSELoss()"),
    "text": ("mse", "is 'mse', of type str; wanted a Loss: pass a loss", "MSELoss()"),
}


def made(config: Any) -> Any:
    from hydra.utils import instantiate

    return instantiate(config)


@pytest.mark.parametrize("kind", NO_LOSS)
def test_term_that_is_no_loss_is_refused_with_a_remedy_that_makes_one(kind: str) -> None:
    found, message, remedy = NO_LOSS[kind]
    with pytest.raises(InputError) as error:
        Objective({"term": found})
    assert message in str(error.value)
    assert str(error.value).startswith("term 'term' is ")
    if remedy:
        term = eval(remedy, {**globals(), "found": found})  # the remedy, typed
        assert Objective({"term": term})(FRAME).isfinite()


@pytest.mark.parametrize("kind", [kind for kind in NO_LOSS if NO_LOSS[kind][2] != "NativeLoss(found)"])
def test_what_is_no_criterion_cannot_be_wrapped(kind: str) -> None:
    found, message, _ = NO_LOSS[kind]
    with pytest.raises(InputError, match=r"^NativeLoss is ") as error:
        NativeLoss(found)
    assert message.partition("wanted a Loss: ")[2] in str(error.value)


@pytest.mark.parametrize(
    "name", ["training", "_buffers", "_parameters", "forward", "keys", "a.b", "a/b", "", "total", 1, None, ("a",)]
)
def test_name_that_no_term_can_have_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match=r"a term cannot be called .*(choose|wanted)"):
        Objective({name: MSELoss()})


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor, Fraction])
def test_number_of_any_library_is_a_weight(kind: Callable[[float], Any]) -> None:
    objective = Objective({"mse": MSELoss()}, {"mse": kind(0.5)})
    assert objective.weights["mse"] == 0.5
    assert objective(FRAME).item() == 2.5
    assert Objective({"mse": MSELoss()}, {"mse": np.int64(2)})(FRAME).item() == 10


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "weights.mse=0 leaves the term out"),
        (True, "found bool"),
        ("0.5", "found str '0.5'"),
        ([0.5], "found list"),
        (torch.ones(2), "found Tensor"),
        (nn.Parameter(torch.ones(())), "a learned weight needs a Weighting"),
        (float("inf"), "wanted a finite number"),
        (np.float32("nan"), "wanted a finite number"),
    ],
)
def test_what_is_no_number_is_no_weight(weight: Any, message: str) -> None:
    with pytest.raises(InputError, match=r"weights\.mse.*wanted") as error:
        Objective({"mse": MSELoss()}, {"mse": weight})
    assert message in str(error.value)


class Halved(Weighting):
    """Halves each configured weight."""

    def weights(self, terms: Any) -> Any:
        return {name: self.configured[name] / 2 for name in terms}


class Misnamed(Weighting):
    """Names no term, or one term too many."""

    extra = True

    def weights(self, terms: Any) -> Any:
        return {**self.configured, "other": 1.0} if self.extra else {}


@pytest.mark.parametrize("weighting", [None, Halved])
def test_weight_that_is_set_later_is_checked_whatever_the_weighting(weighting: type[Weighting] | None) -> None:
    objective = Objective({"mse": MSELoss()}, weighting=weighting)
    for name, weight in (("mes", 1.0), ("mse", float("nan")), ("mse", "1"), ("mse", None)):
        with pytest.raises(InputError, match=rf"weights\.{name}"):
            objective.weights[name] = weight  # type: ignore[index]
    objective.weights["mse"] = 4  # type: ignore[index]
    assert objective(FRAME).item() == (20 if weighting is None else 10)


@pytest.mark.parametrize("extra", [True, False])
def test_weighting_that_names_other_terms_is_refused(extra: bool) -> None:
    objective = Objective({"mse": MSELoss()}, weighting=type("Named", (Misnamed,), {"extra": extra}))
    with pytest.raises(InputError, match=r"Named\.weights: wanted a weight for each of 'mse', found"):
        objective(FRAME)


@pytest.mark.parametrize(
    ("losses", "weights", "inputs", "message"),
    [
        ({"mse": MSELoss()}, 1, None, "weights=1: wanted a mapping, found int"),
        ({"mse": MSELoss()}, "high", None, "weights=high: wanted a mapping, found str"),
        ({"mse": MSELoss()}, [1.0], None, "found list"),
        ({"mse": MSELoss()}, None, 3, "inputs=3: wanted a mapping"),
        ({"mse": MSELoss()}, None, {"mse": "labels"}, "inputs.mse=labels: wanted a mapping from parameters"),
        ({"mse": MSELoss()}, None, {"mse": {"weight": 2}}, "the weight of the whole term is weights.mse"),
        ({"mse": MSELoss()}, None, {"mse": {"target": ["a"]}}, "inputs.mse.target=['a']: wanted the name of an entry"),
        ({"mse": MSELoss()}, None, {"mse": {1: "a"}}, "inputs.mse.1: MSELoss reads 'prediction', 'target'"),
        ({"mse": MSELoss()}, {"l1": 1.0, "mes": 1.0}, {"l1": {}}, "weights.l1, weights.mes, inputs.l1: wanted"),
        (MSELoss(), None, None, "wanted a mapping, found MSELoss"),
        ([MSELoss()], None, None, "wanted a mapping, found list"),
        (None, None, None, "wanted a mapping, found NoneType"),
        ({}, None, None, "at least one loss"),
    ],
)  # fmt: skip
def test_arguments_that_are_no_mappings_of_terms_are_refused(
    losses: Any, weights: Any, inputs: Any, message: str
) -> None:
    with pytest.raises(InputError) as error:
        Objective(losses, weights, inputs)
    assert message in str(error.value)


def test_optional_entry_under_a_name_that_was_chosen_must_be_there() -> None:
    frame = {"embeddings": torch.randn(4, 2), "labels": torch.tensor([0, 0, 1, 1])}
    assert Objective({"supcon": SupConLoss()})(frame).isfinite()
    misspelt = Objective({"supcon": SupConLoss()}, inputs={"supcon": {"views": "vews"}})
    assert "vews" in misspelt.reads
    with pytest.raises(InputError, match=r"SupConLoss reads 'vews' \(as 'views'\), but the frame holds only"):
        misspelt(frame)


OTHERS = {"None": None, "array": np.ones(2), "list": [1.0, 2.0], "number": 1.0, "text": "a", "tensors": [torch.ones(2)]}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("call", [Objective({"mse": MSELoss()}), lambda frame: MSELoss()(**frame)])
def test_entry_that_is_no_tensor_is_refused(call: Callable[..., Any], kind: str) -> None:
    with pytest.raises(InputError, match="MSELoss: wanted prediction as a tensor, found") as error:
        call({**FRAME, "prediction": OTHERS[kind]})
    if kind in ("array", "list", "number"):
        assert "torch.as_tensor(prediction)" in str(error.value)
        assert MSELoss()(torch.as_tensor(OTHERS[kind]), torch.zeros(2) if kind != "number" else torch.tensor(0.0)) > 0


def test_entry_of_any_kind_reaches_a_formula_without_annotations() -> None:
    class Scaled(Loss):
        def loss(self, prediction, factor):  # type: ignore[no-untyped-def]
            return prediction * factor

    assert Scaled()(torch.ones(2), 3.0).item() == 3
    assert SupConLoss()(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]), views=None).isfinite()


def test_frame_that_is_no_mapping_is_refused() -> None:
    for frame in (FRAME["target"], tuple(FRAME.values())):
        with pytest.raises(InputError, match="wanted a frame, a mapping from names to tensors, found"):
            Objective({"mse": MSELoss()})(frame)


def state(*names: str) -> tuple[Objective, dict[str, Any]]:
    kinds: dict[str, Any] = {"mse": MSELoss, "decov": DeCovLoss, "center": partial(CenterLoss, 3, 2)}
    objective = Objective({name: kinds[name]() for name in names})
    return objective, objective.state_dict()


@pytest.mark.parametrize(
    ("saved", "now", "fits"),
    [
        (["mse", "center"], ["mse"], False),
        (["mse", "decov"], ["decov"], False),
        (["mse"], ["mse", "center"], False),
        (["mse"], ["mse", "decov"], True),
        (["center", "mse"], ["mse", "center"], True),
    ],
)
def test_state_of_other_terms_is_refused(saved: list[str], now: list[str], fits: bool) -> None:
    (whole, held), (objective, _) = state(*saved), state(*now)
    held = {f"objective.{key}": value for key, value in held.items()}
    learner = Learner(nn.Identity(), objective, partial(torch.optim.SGD, lr=0.1))
    if fits:
        learner.on_load_checkpoint({"state_dict": held})
        learner.load_state_dict(held)
        return
    with pytest.raises(InputError, match=rf"choose the same losses, loss=\[{','.join(saved)}\]") as error:
        learner.on_load_checkpoint({"state_dict": held})
    left_out = {name: 0.0 for name in saved if name not in now}
    assert all(f"weights.{name}=0" in str(error.value) for name in left_out)
    Objective(dict(state(*saved)[0].named_losses()), left_out).load_state_dict(whole.state_dict())


def test_terms_of_a_module_dict_are_accepted() -> None:
    terms: Any = nn.ModuleDict({"mse": MSELoss()})
    total: Tensor = Objective(terms)(FRAME)
    assert total.item() == 5
