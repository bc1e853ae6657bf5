"""What is out of the range of each key of conf/: values to type, or the statement that no value is.

A key that is true or false needs no row, unless it takes more. Any other key of a file of conf/ is in one row, so that
a new key needs a decision here.
"""

import re

COUNT = ("0", "-3")
SHARE = ("-0.1", "1.5")
NOT_NEGATIVE = ("-1", "inf")
POSITIVE = ("0", "-1", "inf")
CHOICE = ("nope",)
ROWS: dict[str, tuple[str, ...]] = {
    r"seed|data\.seed|balance\.seed": ("-1",),
    r"log_every|checkpoint_every\.(minutes|steps)": COUNT,
    r"checkpoint_monitor\.mode|optional|balance\.(method|scalarizer|scale_mode)": CHOICE,
    r"data\.(split|task)": CHOICE,
    r"data\.(batch_size|per_image|num_(inputs|outputs|classes)|sampler\.samples_per_class)": COUNT,
    r"data\.(val|test)_fraction": ("0", "1", "-0.1", "inf"),
    r"data\.label_noise": SHARE,
    r"data\.augment": ("[nope]",),
    r"data\.black": ("1", "inf"),
    r"(data|model|data\.images)\.image_shape": ("[8]", "[1,0,8]", "[1,8,8,8]"),
    r"data\.offset": ("-1",),
    r"data\.size": ("9",),
    r"data\.cosine": ("1.5", "-1.5"),
    r"data\.noise": ("-0.1", "1.0"),
    r"data\.scale": POSITIVE,
    r"data\.decimal": ("ab",),
    r"model\.(trunk\.)?(num_(inputs|outputs|classes|features|mixtures)|embedding_size|width|hidden)": COUNT,
    r"model\.(trunk\.)?depth": ("-1", "1000000000"),
    r"optimizer\.(lr|weight_decay)": NOT_NEGATIVE,
    r"optimizer\.betas": ("[2,3]", "[0.9]", "[0.9,0.9,0.9]", "[-1,0.9]"),
    r"optimizer\.momentum": SHARE,
    r"scheduler\.(T_max|step_size)": COUNT,
    r"scheduler\.(gamma|eta_min)": NOT_NEGATIVE,
    r"trainer\.(accelerator|strategy|precision)": CHOICE,
    r"trainer\.deterministic": ("yes", "on"),
    r"trainer\.max_time": ("60", "10m"),
    r"trainer\.(devices|num_nodes|check_val_every_n_epoch|accumulate_grad_batches)": COUNT,
    r"trainer\.(max_epochs|max_steps|num_sanity_val_steps)": ("-2",),
    r"trainer\.(min_epochs|gradient_clip_val|log_every_n_steps)": ("-1",),
    r"trainer\.limit_(train|val|test)_batches": ("-1", "-0.1", "1.5", "inf"),
    r"trainer\.val_check_interval": ("0", "-0.1", "1.5"),
    r"trainer\.strategy\.(data|tensor)_parallel_size": ("0", "3"),
    r"callbacks\.monitor\.(x|nonfinite)|callbacks\.\w+\.mode|callbacks\.lr_monitor\.logging_interval": CHOICE,
    r"callbacks\.monitor\.spikes": ("0", "-1"),
    r"callbacks\.\w+\.(log_every|every_(minutes|steps|n_batches|n_epochs)|limit|queries|neighbours|k)": COUNT,
    r"callbacks\.last\.keep|callbacks\.ema\.update_every_n_steps": COUNT,
    r"callbacks\.\w+\.thumbnail": (*COUNT, "100000"),
    r"callbacks\.early_stopping\.min_delta": NOT_NEGATIVE,
    r"callbacks\.early_stopping\.stopping_threshold": ("inf",),
    r"callbacks\.(ema\.update_starting_at_step|early_stopping\.patience|pruning\.pruner\.\w+)": ("-1",),
    r"callbacks\.ema\.decay": SHARE,
    r"callbacks\.model_summary\.max_depth": ("-2",),
    r"loss\.\w+\.(reduction|distance|activation|log_term|labels|average)": CHOICE,
    r"loss\.\w+\.(label_smoothing|quantile)|loss\.(center|binary_focal)\.alpha": SHARE,
    r"loss\.(contrastive|pair_contrastive)\.margin|loss\.\w+\.(temperature|delta|eps|power|smooth)": POSITIVE,
    r"loss\.(?!.*contrastive)\w+\.margin|loss\.\w+\.(gamma|log_scale|l1|l2)|loss\.focal\.alpha": NOT_NEGATIVE,
    r"loss\.\w+\.(log_cutoff|log_offset)": ("-1", "inf"),
    r"loss\.\w+\.(num_\w+)": COUNT,
    r"loss\.\w+\.(class_weight|pos_weight)": ("-1",),
    r"weights\.\w+": ("inf",),
    r"balance\.beta": ("-0.1", "1.0"),
    r"balance\.(total_norm|mu|temperature|lr)": POSITIVE,
    r"balance\.(c|alpha|weight_decay)": NOT_NEGATIVE,
    r"metrics\.accuracy\.metric\.average": CHOICE,
    r"metrics\.\w+\.metric\.num_(classes|outputs)": COUNT,
}
FREE = (
    r"ckpt|run_dir|trainer\.default_root_dir|logger\.\w+\.\w+|data\.(images\.)?(path|root)",  # paths and names
    r"(loss|weights|inputs|schedule|metrics|logger|callbacks)|metrics\.\w+\.metric",  # what files fill
    r"balance_at|checkpoint_monitor\.metric|inputs\.\w+\.\w+|metrics\.\w+\.reads|model\.(trunk\.)?heads",  # entries
    r"model\.(inputs|outputs)|callbacks\.\w+\.(ids|target|prediction|image|text|embeddings|labels|logits|monitor)",
    r"data\.(target|columns|ignore|split_column|separator)",  # of a file, which says what there is
    r"callbacks\.\w+\.(dirpath|filename|path|folder|run_dir)|callbacks\.device_stats\.cpu_stats",
    r"loss\.\w+\.(ignore_index|dim)|callbacks\.confusion\.ignore_index",  # any class; any dimension of what is read
    r"model\.(module|name|options)|loss\.l1_l2_penalty\.pattern",
)
"""Keys that take any value of their kind, or names that other tests compare with what is there."""


def out_of_range(key: str) -> tuple[str, ...]:
    """Return values out of the range of a key; an `AssertionError` if no row decides on them, or several do."""
    found = [values for pattern, values in ROWS.items() if re.fullmatch(pattern, key)]
    found += [() for pattern in FREE if re.fullmatch(pattern, key)]
    assert len(found) == 1, f"{key}: wanted one row of tests/training/key_ranges.py that decides on it, found {found}"
    return found[0]
