"""A checkpoint of which a part is missing or of another kind is refused by its key, or goes on with a warning."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from fuzzing import resumes

from lossframe.errors import InputError
from lossframe.training import restored
from lossframe.training.run_folder import checkpoints

MONITOR = "callbacks.LossMonitor"
DAMAGED = {
    "optimizer_states": "the checkpoint.optimizer_states: wanted what was saved, found nothing",
    "optimizer_states.0.state.0.exp_avg": "optimizer_states[0].state.0.exp_avg: wanted what was saved, found nothing",
    "lr_schedulers.0.last_epoch": "lr_schedulers[0].last_epoch: wanted what was saved, found nothing",
    "loops.fit_loop.epoch_progress.total.ready": "fit_loop.epoch_progress.total.ready: wanted what was saved",
    "state_dict.objective._extra_state.configured": "objective._extra_state.configured: wanted what was saved",
    "state_dict.objective.weighting.means": 'Missing key(s) in state_dict: "objective.weighting.means"',
    f"{MONITOR}.collector.window": "LossMonitor.collector.window: wanted what was saved, found nothing",
    "Digits.progress": "Digits.progress: wanted what was saved, found nothing",
}
ANEW = {
    "callbacks.Generators": "the checkpoint holds nothing of Generators: this starts anew",
    "Digits": "the checkpoint holds nothing of the data of Digits: this starts anew",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> resumes.Run:
    """Write the files of a trained run into a folder of its own, and enter that."""
    monkeypatch.chdir(tmp_path)
    made = resumes.trained(resumes.RUNS[0])
    for name, content in made.files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    return made


def parent(state: Any, key: str) -> tuple[Any, Any]:
    """Return the mapping that holds a part of a checkpoint, named by dots, and the part's own key."""
    while True:
        names: list[Any] = [name for name in state if key == str(name) or key.startswith(f"{name}.")]
        name = max(names, key=lambda each: len(str(each)))
        rest = key.removeprefix(str(name)).removeprefix(".")
        if not rest:
            return state, name
        state, key = state[name], rest
        if isinstance(state, list):
            number, _, key = key.partition(".")
            state = state[int(number)]


def without(key: str) -> None:
    """Take a part out of the checkpoint."""
    file = Path("run/checkpoints/last.ckpt")
    state = torch.load(file, weights_only=True)
    holder, name = parent(state, key)
    del holder[name]
    torch.save(state, file)


@pytest.mark.parametrize("key", DAMAGED)
def test_missing_part_is_refused_by_file_and_key(run: resumes.Run, key: str) -> None:
    without(key)
    with pytest.raises(InputError, match=re.escape(DAMAGED[key])) as caught:
        resumes.train(run.config.copy())
    assert str(caught.value).startswith("run/checkpoints/last.ckpt: ")


@pytest.mark.parametrize("key", ANEW)
def test_missing_part_that_may_be_new_starts_anew_with_a_warning(run: resumes.Run, key: str) -> None:
    without(key)
    with pytest.warns(UserWarning, match=re.escape(ANEW[key])):
        resumes.train(run.config.copy())


def test_changed_byte_of_a_weight_is_refused(run: resumes.Run) -> None:
    file = Path("run/checkpoints/best.ckpt")
    content = file.read_bytes()
    weights = torch.load(file, weights_only=True)["state_dict"]
    place = content.index(
        next(each for each in weights.values() if torch.is_tensor(each) and each.numel() > 99).numpy()
    )
    file.write_bytes(content[: place + 8] + bytes([content[place + 8] ^ 1]) + content[place + 9 :])
    with pytest.raises(InputError, match=r"best.ckpt: wanted a whole checkpoint, found .* damaged"):
        checkpoints.contents(file)


class Rows(torch.optim.Optimizer):
    """Keeps a number for each row of a matrix, and refuses other parameters."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        if any(each.ndim != 2 for each in self.param_groups[0]["params"]):
            raise ValueError("only supports 2D")

    def step(self, closure: Any = None) -> None:
        for each in self.param_groups[0]["params"]:
            self.state[each]["row"] = each.grad.square().mean(1)


def test_optimizer_of_matrices_with_a_number_for_each_row_goes_on() -> None:
    weight = torch.nn.Parameter(torch.ones(5, 4))
    weight.grad = torch.ones(5, 4)
    optimizer = Rows([weight])
    optimizer.step()
    found = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": []}
    restored.check_options(found, Rows, None, [weight])
    restored.check_accumulated(found, Rows, {"weight": weight})
