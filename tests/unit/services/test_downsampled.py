"""Histories cut to so many epochs: no extreme is lost, and what room there is is used."""

import numpy as np
import pytest

from app.services.jobs.history import History


def history_of(**series: list[float]) -> History:
    return History({name: (np.arange(len(v)), np.array(v)) for name, v in series.items()})


@pytest.mark.parametrize("most", [2, 3, 10, 37, 99])
def test_series_that_fall_together_use_the_room(most: int) -> None:
    falling = [1 / (epoch + 1) for epoch in range(100)]
    found = history_of(train=falling, test=[2 * value for value in falling], rate=[0.1] * 100)
    cut = found.downsampled(most).series
    epochs = [list(epochs) for epochs, _ in cut.values()]
    assert epochs[0] == epochs[1] == epochs[2]
    assert most * 0.6 <= len(epochs[0]) <= most
    assert {0, 99} <= set(epochs[0])
    for name, (kept, values) in cut.items():
        assert list(values) == [found.series[name][1][epoch] for epoch in kept]


def test_a_spike_of_one_epoch_is_kept() -> None:
    spiked = [0.5] * 1000
    spiked[617] = 9.0
    kept, values = history_of(train=spiked, rate=[0.1] * 1000).downsampled(20).series["train"]
    assert len(kept) <= 20
    assert 617 in kept
    assert values.max() == 9.0
