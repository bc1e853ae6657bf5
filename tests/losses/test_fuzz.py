"""Random calls of losses and other random input end as they should; `scripts/fuzz_*.py` run more."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_inputs
import fuzz_losses

from lossframe import InputError
from lossframe.losses import MSELoss


def test_thousand_random_calls_of_losses_end_as_they_should(threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)  # cases are small
    outcomes = fuzz_losses.fuzz(0, range(1000))
    assert not outcomes["failed"], capsys.readouterr().out
    assert outcomes["right"] > 800


def test_two_thousand_random_inputs_end_in_a_value_or_one_line(
    threads: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    outcomes = fuzz_inputs.fuzz(0, range(2000))
    assert not [name for name in outcomes if "failed" in name], capsys.readouterr().out
    assert {f"{kind} refused" for kind in fuzz_inputs.KINDS} - {"events refused"} <= {*outcomes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to("meta"), "wanted all inputs on one device, found"),
        (lambda x: torch.nested.nested_tensor(list(x)), "found a nested one; pass"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "found a quantized one; pass"),
        (lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype), "found one without memory; pass"),
        (lambda x: torch.masked.masked_tensor(x, x > 0), "found a MaskedTensor; pass"),
        (lambda x: x.to_mkldnn(), "found torch._mkldnn; pass"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(prototype|deprecated|removed)")
def test_entry_that_is_no_dense_tensor_of_the_same_device_is_named(
    change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    prediction = torch.linspace(-1, 1, 6).reshape(2, 3)
    with pytest.raises(InputError, match=message):
        MSELoss()(change(prediction), torch.zeros(2, 3))
    with pytest.raises(InputError, match="wanted"):
        MSELoss()(prediction, torch.zeros(2, 3), weight=change(prediction))
