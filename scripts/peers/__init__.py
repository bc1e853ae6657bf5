"""Losses of other libraries, each with the loss that stands for it here: the table behind docs/coming_from.md.

Each row computes the values of the other library in plain torch, from its documentation and source, in the layout used
here: classes are on dim 1, and the prediction comes first. `tests/losses/test_coming_from.py` compares the numbers.
"""

from peers import dense, embeddings, probable, regions
from peers.row import Row

ROWS: list[Row] = [*dense.ROWS, *probable.ROWS, *regions.ROWS, *embeddings.ROWS]
LIBRARIES = {
    "Keras": "Keras 3.15; `from_logits=True` where logits are read",
    "TensorFlow Addons": "TensorFlow Addons 0.23",
    "tf.contrib.losses": "`tf.contrib.losses` of TensorFlow 1.15",
    "torch": "torch 2.13, `torch.nn`",
    "torchvision": "torchvision, `torchvision.ops`",
    "pytorch-metric-learning": "pytorch-metric-learning 2.9, `losses`",
    "lightly": "lightly 1.5, `lightly.loss`",
    "optax": "optax 0.2.8, `optax.losses`",
    "MONAI": "MONAI 1.6, `monai.losses`",
    "segmentation-models": "segmentation-models-pytorch 0.6, `losses`",
    "kornia": "kornia 0.9, `kornia.losses`",
    "babilim": "babilim",
}
"""Libraries in the order of the page, with the versions whose sources were read."""
