"""Lists command lines that are wrong, with what the one line that answers each must name: the key, and the remedy."""

from typing import NamedTuple


class Wrong(NamedTuple):
    """A wrong command line: its arguments, words of the answer, and the exit status (2: it has no command's form)."""

    arguments: str
    key: str
    remedy: str
    status: int = 1


FORM = [
    Wrong("triplet", "triplet:", "loss=triplet", 2),
    Wrong("digits", "digits:", "data=digits", 2),
    Wrong("center_vs_triplet", "center_vs_triplet:", "experiment=center_vs_triplet", 2),
    Wrong("loss:triplet", "loss:triplet:", "loss=triplet", 2),
    Wrong("loss = triplet", "loss:", "without spaces", 2),
    Wrong("loss=[triplet", "loss=[triplet:", "'loss=[triplet,center]'", 2),
    Wrong("loss=[triplet, center]", "loss=[triplet,:", "without spaces", 2),
    Wrong("optimizer.betas=(0.9", "optimizer.betas=(0.9:", "brackets", 2),
    Wrong("data.root=a=b", "data.root=a=b:", "'data.root=\"a=b\"'", 2),
    Wrong("--loss=triplet", "--loss=triplet:", "loss=triplet", 2),
    Wrong("-loss=triplet", "-loss=triplet:", "loss=triplet", 2),
    Wrong("--seed 1", "--seed:", "KEY=VALUE", 2),
    Wrong("--multi-run seed=1,2", "--multi-run:", "'--multirun'", 2),
    Wrong("--config-dir", "--config-dir", "expected one argument", 2),
    Wrong("--cfg everything", "--cfg", "'job'", 2),
]
"""What Hydra's grammar does not read."""

CHOICES = [
    Wrong("loss=tripplet", "loss=tripplet:", "'triplet'"),
    Wrong("loss=[triplet,centre]", "loss=centre:", "'center'"),
    Wrong("data=mnist", "data=mnist:", "'mnist5k'"),
    Wrong("data/sampler=random", "data/sampler=random:", "'shuffled'"),
    Wrong("model=resnet", "model=resnet:", "'embedder'"),
    Wrong("optimizer=adamm", "optimizer=adamm:", "'adam'"),
    Wrong("scheduler=cosin", "scheduler=cosin:", "'cosine'"),
    Wrong("trainer=ddp_sim", "trainer=ddp_sim:", "'ddp_cpu'"),
    Wrong("metrics=acc", "metrics=acc:", "'classification'"),
    Wrong("logger=tensorbord", "logger=tensorbord:", "'tensorboard'"),
    Wrong("callbacks=[default,hard]", "callbacks=hard:", "'hard_samples'"),
    Wrong("balance=learned", "balance=learned:", "'fixed'"),
    Wrong("experiment=digits", "experiment=digits:", "'diabetes'"),
    Wrong("loss=null", "loss=null:", "'triplet'"),
    Wrong("data=null", "data=null:", "'digits'"),
    Wrong("data/sampler=null", "data/sampler=null:", "'balanced'"),
    Wrong("model=null", "model=null:", "'embedder'"),
    Wrong("optimizer=3", "optimizer=3:", "'adam'"),
    Wrong("loss=[triplet,1]", "loss=[triplet,1]:", "'center'"),
    Wrong("+data=digits", "+data:", "data=CHOICE"),
    Wrong("loss.triplet=0.5", "loss.triplet=0.5:", "weights.triplet"),
    Wrong("optimizer=null", "optimizer=null:", "'adam'"),
    Wrong("trainer=null", "trainer=null:", "'cpu'"),
    Wrong("balance=null", "balance=null:", "'fixed'"),
    Wrong("-m logger=csv,null", "logger=csv,null:", "logger=[]"),
    Wrong("--config-name=nope", "--config-name=nope:", "'train'"),
    Wrong("--config-path=nope --config-name=config", "--config-path:", "--config-dir"),
    Wrong("hydra/launcher=nope", "hydra/launcher=nope:", "'basic'"),
    Wrong("loss=[]", "loss=[]:", "loss=triplet"),
    Wrong("~loss.triplet", "loss", "loss=triplet"),
]
"""Groups: choices that are not there, and groups that cannot be empty."""

KEYS = [
    Wrong("ckpt_path=last.ckpt", "ckpt_path:", "'ckpt'"),
    Wrong("lr=1e-3", "lr:", "optimizer.lr"),
    Wrong("loss.triplet.margn=1", "loss.triplet.margn:", "'margin'"),
    Wrong("data.batchsize=8", "data.batchsize:", "'batch_size'"),
    Wrong("trainer.epochs=3", "trainer.epochs:", "'max_epochs'"),
    Wrong("optimizer.momentum=0.9", "optimizer.momentum:", "optimizer=sgd"),
    Wrong("scheduler.T_max=3", "scheduler.T_max:", "scheduler=cosine"),
    Wrong("+optimizer.lr=1", "+optimizer.lr=1:", "without a plus"),
    Wrong("trainer.logger=false", "trainer.logger=false:", "logger=[]"),
    Wrong("+trainer.callbacks=[]", "+trainer.callbacks=[]:", "callbacks=[]"),
    Wrong("callbacks.monitor.logevery=3", "callbacks.monitor.logevery:", "'log_every'"),
    Wrong("inputs.triplet.lables=labels", "inputs.triplet.lables:", "'labels'"),
    Wrong("weights.centre=1", "weights.centre:", "'triplet'"),
    Wrong("schedule.centre={kind:linear}", "schedule.centre:", "'triplet'"),
    Wrong("schedule.triplet={kind:linaer}", "schedule.triplet.kind=linaer:", "'linear'"),
    Wrong("balance=upgrad balance_at=featurs", "balance_at reads 'featurs'", "balance_at=ENTRY"),
    Wrong("optional=[centre]", "optional=[centre]:", "'triplet'"),
    Wrong("data.seed=${sed}", "data.seed reads sed", "name a key that is there"),
]
"""Keys that are not there."""

VALUES = [
    Wrong("seed=one", "seed=one:", "seed=1"),
    Wrong("seed=null", "seed=null:", "seed=1"),
    Wrong("seed=1.5", "seed=1.5:", "seed=1"),
    Wrong("log_every=2.5", "log_every=2.5:", "log_every=10"),
    Wrong("data.batch_size=3.5", "data.batch_size=3.5:", "data.batch_size=4"),
    Wrong("data.batch_size=80.0", "data.batch_size=80.0:", "data.batch_size=80"),
    Wrong("data.batch_size=1e2", "data.batch_size=100.0:", "data.batch_size=100"),
    Wrong("data.image_shape=8", "data.image_shape=8:", "data.image_shape=[1,8,8]"),
    Wrong("model.width=wide", "model.width=wide:", "model.width=32"),
    Wrong("loss.triplet.margin=big", "loss.triplet.margin=big:", "loss.triplet.margin=0.2"),
    Wrong("loss.triplet.log_std=yes", "loss.triplet.log_std=yes:", "loss.triplet.log_std=true"),
    Wrong("optimizer.lr=fast", "optimizer.lr=fast:", "optimizer.lr=0.001"),
    Wrong("trainer.max_epochs=all", "trainer.max_epochs=all:", "trainer.max_epochs=20"),
    Wrong("trainer.enable_progress_bar=perhaps", "trainer.enable_progress_bar=perhaps:", "true"),
    Wrong("weights.triplet=null", "weights.triplet=null:", "weights.triplet=1.0"),
    Wrong("trainer.devices=0", "trainer.devices=0:", "trainer.devices=1"),
    Wrong("trainer.devices=2.5", "trainer.devices=2.5:", "trainer.devices=1"),
    Wrong("trainer.devices=[0,1]", "trainer.devices=[0,1]:", "trainer.devices=1"),
    Wrong("trainer.strategy=ddp_spawn", "trainer.strategy=ddp_spawn:", "trainer=ddp_cpu"),
    Wrong("trainer.strategy=ddp_notebook", "trainer.strategy=ddp_notebook:", "trainer=ddp_cpu"),
    Wrong("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0:", "1 or more"),
    Wrong("scheduler=step scheduler.step_size=0", "scheduler.step_size=0:", "1 or more"),
    Wrong("data=folder", "data.root:", "data.root=VALUE"),
    Wrong("data=csv", "data.path, data.target:", "data.path=VALUE data.target=VALUE"),
    Wrong("ckpt=nope.ckpt", "ckpt=nope.ckpt:", "checkpoints/last.ckpt"),
    Wrong("ckpt=photos/0/0.png", "photos/0/0.png:", "move it to RUN/checkpoints/ of its run"),
    Wrong("ckpt=", "ckpt=:", "null"),
    Wrong("trainer.deterministic=yes", "trainer.deterministic=yes:", "true, false or warn"),
    Wrong("scheduler=cosine trainer.max_epochs=-1", "trainer.max_epochs=-1:", "1 or more"),
    Wrong("trainer=ddp_cpu trainer.devices=1000000", "trainer.devices=1000000:", "at most"),
    Wrong("-m optimizer.lr=1e-3,-1", "job 1 of 2 (optimizer.lr=-1): optimizer.lr=-1:", "0 or more"),
    Wrong("-m seed=1,two", "job 1 of 2 (seed=two): seed=two:", "seed=1"),
    Wrong("-m seed=1,2 loss.triplet.margin=big", "job 0 of 2 (seed=1): loss.triplet.margin=big:", "margin=0.2"),
]
"""Values of a wrong kind, and missing ones: none of these imports torch."""

OBJECTS = [
    Wrong("trainer=gpu", "trainer.accelerator=gpu:", "trainer=cpu"),
    Wrong("trainer=ddp trainer.devices=7", "trainer.accelerator=gpu:", "trainer=ddp_cpu"),
    Wrong("loss.triplet.margin=-1", "loss.triplet.margin", ">= 0"),
    Wrong("loss.triplet.margin=null", "loss.triplet.margin", "wanted a number"),
    Wrong("loss.triplet.distance=euclid", "loss.triplet.distance 'euclid'", "'euclidean'"),
    Wrong("loss=center loss.center.alpha=2", "loss.center.alpha", "within [0, 1]"),
    Wrong("model.embedding_size=0", "model.embedding_size", ">= 1"),
    Wrong("experiment=diabetes model.depth=-1", "model.depth", ">= 0"),
    Wrong("log_every=0", "log_every", ">= 1"),
    Wrong("seed=-1", "seed=-1:", "0 to 4294967295"),
    Wrong("callbacks.monitor.nonfinite=explode", "callbacks.monitor.nonfinite='explode'", "'skip'"),
    Wrong("callbacks=[default,retrieval] callbacks.retrieval.queries=0", "callbacks.retrieval.queries", ">= 1"),
    Wrong("loss=mse", "MSELoss reads", "experiment="),
    Wrong("-m loss=triplet,mse seed=1,2", "job 2 of 4 (loss=mse seed=1): MSELoss reads", "experiment="),
    Wrong("trainer.strategy=nope", "trainer.strategy='nope'", "ddp"),
    Wrong("trainer.precision=17", "trainer.precision=17: Precision 17", "'32-true'"),
    Wrong("optimizer.lr=-1", "optimizer.lr=-1:", "0 or more"),
    Wrong("trainer.val_check_interval=99", "trainer.val_check_interval=99:", "trainer.check_val_every_n_epoch=null"),
    Wrong(
        "scheduler=step scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau "
        "~scheduler.step_size ~scheduler.gamma",
        "scheduler:",
        "scheduler=cosine",
    ),
    Wrong("data.batch_size=7", "data.batch_size=7", "data.batch_size=8 or data.sampler.samples_per_class=7"),
    Wrong("-m data.batch_size=7 seed=1,2", "job 0 of 2 (seed=1): data.batch_size=7", "data.batch_size=8"),
    Wrong("data.val_fraction=2", "data.val_fraction", "above 0"),
    Wrong("data.split=class", "data.split", "'classes'"),
    Wrong("data.num_classes=3", "data.num_classes=3", "data.num_classes=10"),
    Wrong("data.image_shape=[1,8,9]", "data.image_shape=[1,8,9]", "data.image_shape=[1,8,8]"),
    Wrong("data=folder data.root=nowhere data.num_classes=3", "data.root", "CLASS"),
    Wrong(
        "data=folder data.root=photos data.num_classes=4 data.batch_size=8", "data.num_classes=4", "data.num_classes=3"
    ),
    Wrong("data=csv data.path=nowhere.csv data.target=price", "nowhere.csv", "No such file"),
    Wrong("data.augment=[flips]", "data.augment", "'flip'"),
    Wrong("loss=categorical_accuracy", "'categorical_accuracy'", "cross_entropy"),
]
"""What the constructors, the data, or the first step refuse."""

ALL = [*FORM, *CHOICES, *KEYS, *VALUES, *OBJECTS]
