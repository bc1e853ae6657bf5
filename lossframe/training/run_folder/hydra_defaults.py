"""Registers with Hydra what conf/ reads to be composed: resolvers, the folders of runs and sweeps, and the base of it.

An import registers, because a sweep's launcher imports the command in processes of its own.
"""

from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lossframe import configs
from lossframe.training import launch
from lossframe.training.configuration import composition
from lossframe.training.run_folder import run_dir

OmegaConf.register_new_resolver("terms", lambda _, *, _root_: "+".join(composition.terms(_root_)), replace=True)
OmegaConf.register_new_resolver("started", launch.started, use_cache=True, replace=True)  # one time for a whole sweep
OmegaConf.register_new_resolver("run_dir", run_dir.chosen, replace=True)

_NEW = "_${started:}"
_TERMS = "${terms:${oc.select:loss,{}}}"
_HYDRA_DEFAULTS = HydraConf(  # here, and not in conf/train.yaml, they hold for every configuration, also a repeated one
    output_subdir=None,  # Hydra would write .hydra/ before the run's directory is locked
    job=JobConf(name="train"),
    run=RunDir("${run_dir:${oc.select:ckpt,null},${oc.select:run_dir,null},runs/" + _TERMS + _NEW + "}"),
    sweep=SweepDir("${run_dir:null,${oc.select:run_dir,null},runs/sweep" + _NEW + "}", "${hydra.job.num}_" + _TERMS),
    callbacks={"early_checks": {"_target_": "lossframe.training.early_checks.EarlyChecks"}},
)
if not launch.is_first():  # only rank 0 writes train.log
    _HYDRA_DEFAULTS.defaults.remove({"job_logging": "default"})
    _HYDRA_DEFAULTS.defaults.append({"job_logging": "disabled"})
ConfigStore.instance().store("config", _HYDRA_DEFAULTS, group="hydra", provider="lossframe")
ConfigStore.instance().store("lossframe", configs.read("train"), provider="lossframe")  # a base for primary ones
