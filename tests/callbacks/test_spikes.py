"""`Spikes` notes a point that is far above the recent points of its term."""

import random

from lossframe import Moments
from lossframe.callbacks.monitor.spikes import Spikes


def window(mean: float) -> dict[str, dict[str, Moments]]:
    return {"mse": {"loss": Moments(count=10, mean=mean, max=2 * mean)}}


def test_spike_is_noted_once_and_noise_is_not() -> None:
    generator, spikes = random.Random(0), Spikes(10)
    for step in range(200):
        assert list(spikes.found(window(5 * 0.99**step + generator.uniform(0.9, 1.1)))) == []
    noted = list(spikes.found(window(9.0)))
    assert len(noted) == 2
    assert noted[0].startswith("the mean of 'mse', 9, is ")
    assert list(spikes.found(window(1.5))) == []


def test_recent_points_are_restored_from_a_checkpoint() -> None:
    generator, spikes = random.Random(0), Spikes(10)
    for _ in range(30):
        list(spikes.found(window(generator.uniform(0.9, 1.1))))
    resumed = Spikes(10)
    resumed.load_state_dict(spikes.state_dict())
    assert list(resumed.found(window(9.0)))
    assert list(Spikes(10).found(window(9.0))) == []
    assert list(Spikes(None).found(window(9.0))) == []
