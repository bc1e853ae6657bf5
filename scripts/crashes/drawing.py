"""Draws configurations of short runs: losses, balances, schedules, samplers, optimisers, limits and callbacks."""

import random

from lossframe import configs
from scripts.crashes.stories import EVERY

_STEP = ["scheduler=step", "scheduler.step_size=1", "scheduler.gamma=0.5"]
_EXPONENTIAL = ["scheduler=step", "scheduler._target_=torch.optim.lr_scheduler.ExponentialLR", "~scheduler.step_size"]
_SCHEDULE = "schedule.triplet={{kind: {}, start: 0, end: 1, until: {}, unit: {}}}"
_MEMORY = [
    "loss=[]", "metrics=retrieval", "+loss.memory._target_=lossframe.losses.CrossBatchMemory", "+loss.memory.size=100",
    "+loss.memory.num_features=64", "+loss.memory.loss._target_=lossframe.losses.SupConLoss", "+loss.memory.warmup=3",
    "+weights.memory=1.0",
]  # fmt: skip
_LOSSES = [
    ["loss=triplet"],
    ["loss=[cross_entropy,center]", "weights.center=0.01", "metrics=[retrieval,classification]"],
    ["loss=[cross_entropy,triplet]", _SCHEDULE.format("linear", 20, "steps")],
    ["loss=[cross_entropy,triplet]", _SCHEDULE.format("cosine", 2, "epochs")],
    ["loss=[cross_entropy,triplet]", _SCHEDULE.format("linear", 1700, "samples")],
    _MEMORY,
]
_OTHERS = [
    [[], ["data/sampler=shuffled"], ["data.augment=[flip,crop]"], ["data.label_noise=0.05"], ["data.split=classes"]],
    [["optimizer=adam"], ["optimizer=adamw"], ["optimizer=sgd", "optimizer.lr=0.01"], ["optimizer.weight_decay=0.01"]],
    [[], _STEP, ["scheduler=cosine", "scheduler.T_max=3"], _EXPONENTIAL],
    [[], [], ["trainer.gradient_clip_val=0.5"]],
    [[], ["trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches=3"]],
    [
        [], ["trainer.val_check_interval=3"], ["trainer.check_val_every_n_epoch=2"], ["trainer.val_check_interval=0.5"],
        ["trainer.val_check_interval=7", "trainer.check_val_every_n_epoch=null"],
    ],
    [["trainer.limit_train_batches=6"], ["trainer.limit_train_batches=8"]],
    [["trainer.max_epochs=3"], ["trainer.max_epochs=-1", "trainer.max_steps=11"], ["trainer.max_steps=9"]],
    [[], [], *([f"callbacks=[default,{each}]"] for each in ("ema", "early_stopping", "hard_samples", "gradients"))],
    [[], ["trainer.precision=64-true"], ["trainer.precision=bf16-mixed"]],
    [["log_every=1"], ["log_every=3"], ["log_every=10"]],
    [[], ["callbacks.monitor.nonfinite=skip"], ["callbacks.monitor.nonfinite=off"]],
]  # fmt: skip


def configuration(chance: random.Random) -> list[str]:
    """Return the overrides of a run of at most three epochs of eight batches."""
    balances = [each for each in configs.choices("balance") if each != "fixed"]
    balanced = ["loss=[cross_entropy,triplet]", f"balance={chance.choice(balances)}"]
    overrides = [*chance.choice([*_LOSSES, balanced, [*balanced, "balance_at=embeddings"]])]
    for choices in _OTHERS:
        overrides += chance.choice(choices)
    return [
        *overrides, "model._target_=scripts.crashes.faults.NoisyEmbedder", "trainer.enable_progress_bar=false",
        "+callbacks.crash._target_=scripts.crashes.faults.Crash",
        f"checkpoint_every={{minutes:null,steps:{chance.randint(1, 2 * EVERY)}}}",
    ]  # fmt: skip
