"""The training loop of the documents, with plain DistributedDataParallel and with Fabric, against one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import snippets

SCRIPT = """
import json, os, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from lossframe import drain
from lossframe.losses import MSELoss

kind, path = sys.argv[1:]
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
torch.manual_seed(0)
model = torch.nn.Linear(3, 1).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
whole = [{"inputs": torch.randn(7, 3).double(), "target": torch.randn(7, 1).double()} for _ in range(4)]
loader = [{name: tensor[rank::world] for name, tensor in batch.items()} for batch in whole]
criterion = MSELoss()
if kind == "ddp":
    torch.distributed.init_process_group("gloo")
elif kind == "fabric":
    from lightning.fabric import Fabric
    fabric = Fabric(accelerator="cpu", devices=world, strategy="ddp")
    fabric.launch()
    model, optimizer = fabric.setup(model, optimizer)
if kind != "ddp":
    DistributedDataParallel = lambda module: module
LOOP
moments = drained["regression"]["loss"]
if rank == 0:
    weights = [value for parameter in model.parameters() for value in parameter.detach().reshape(-1).tolist()]
    with open(path, "w") as file:
        json.dump([weights, moments.count, moments.mean, moments.std, moments.min, moments.max], file)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
os._exit(0)  # now and then threads that Fabric leaves abort a process at its end, which is not what is tested
"""


@pytest.mark.slow
def test_documented_loop_gives_equal_weights_on_one_and_two_ranks(tmp_path: Path) -> None:
    script = tmp_path / "loop.py"
    backward = "fabric.backward(loss) if kind == 'fabric' else loss.backward()"
    script.write_text(SCRIPT.replace("LOOP", snippets.marked("loop").replace("loss.backward()", backward)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    results = {}
    for kind, launcher in (("alone", []), ("ddp", torchrun), ("fabric", torchrun)):
        path = tmp_path / f"{kind}.json"
        command = [sys.executable, *launcher, str(script), kind, str(path)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert result.returncode == 0, result.stderr
        weights, *moments = json.loads(path.read_text())
        results[kind] = [*weights, *moments]
    assert results["ddp"] == pytest.approx(results["alone"], rel=1e-12)
    assert results["fabric"] == pytest.approx(results["alone"], rel=1e-12)
