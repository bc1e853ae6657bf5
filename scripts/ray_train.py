"""Trains one configuration on several workers of Ray Train: python scripts/ray_train.py --workers 2 loss=triplet ...

The arguments after the options are those of `lossframe train`, and the numbers are those of trainer=ddp_cpu
trainer.devices=WORKERS. Ray asks for lossframe's extra `ray`; its workers need the folder of the runs. With the package
`lightning` in the same environment Ray would take that one's classes, which pytorch_lightning does not know.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from lossframe import configs
from lossframe.training.run_folder import run_dir

RAY = (
    "trainer=ddp",
    "trainer.devices=auto",
    "trainer.strategy={_target_: ray.train.lightning.RayDDPStrategy}",
    "+trainer.plugins=[{_target_: ray.train.lightning.RayLightningEnvironment}]",
    "trainer.enable_progress_bar=false",
    "++callbacks.stop=null",  # Ray runs `train` in a thread, where no signal can be handled, and ends workers itself
)


def train(given: dict[str, str]) -> None:
    """Train in one worker; Ray has made the process group."""
    from lossframe.training.run import run

    config = OmegaConf.create(given["config"])
    run(config, {run_dir.RESOLVED: given["config"], ".hydra/overrides.yaml": given["overrides"]})


def main() -> None:
    """Compose the configuration here, and train it in the workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", action="store_true", help="a GPU for each worker")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    if find_spec("lightning"):
        sys.exit("error: wanted an environment without the package lightning, whose classes Ray would take; remove it")
    folder = Path(f"runs/ray_{time.strftime('%Y-%m-%d_%H-%M-%S')}").absolute()
    accelerator = f"trainer.accelerator={'gpu' if given.gpus else 'cpu'}"
    with initialize_config_dir(str(configs.root()), version_base="1.3"):
        config = compose("train", [f"run_dir={folder}", *RAY, accelerator, *given.overrides])
    Path(config.run_dir).mkdir(parents=True, exist_ok=True)
    handed = {"config": OmegaConf.to_yaml(config, resolve=True), "overrides": yaml.safe_dump(given.overrides)}
    TorchTrainer(
        train,
        train_loop_config=handed,
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpus),
        run_config=RunConfig(storage_path=config.run_dir, name="ray"),
    ).fit()


if __name__ == "__main__":
    main()
