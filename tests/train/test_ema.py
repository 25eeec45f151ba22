"""The average of a network's weights follows them slowly, from the beginning of a run on."""

from __future__ import annotations

import torch
from torch import nn

from train.ema import Averaged


def test_it_is_the_moving_average_of_weights_and_statistics():
    network = nn.BatchNorm1d(1)
    averaged = Averaged(network, 0.5)
    wanted = 1.0
    for step in range(20):
        with torch.no_grad():
            network.weight.fill_(float(step))
            network.running_mean.fill_(2.0 * step)
            network.num_batches_tracked.fill_(step)
        averaged.take(step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    assert averaged.network.weight.item() == torch.tensor(wanted).item()
    assert averaged.network.num_batches_tracked.item() == 19
    assert 17 < averaged.network.weight.item() < 19 < averaged.network.running_mean.item() < 38


def test_it_stays_in_evaluation_mode_and_out_of_the_gradients():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    averaged = Averaged(network, 0.9)
    assert not any(module.training for module in averaged.network.modules())
    assert not any(parameter.requires_grad for parameter in averaged.network.parameters())
    assert network.training
