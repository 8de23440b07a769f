"""Weights for I3D that make its features differ."""

import pytest
import torch
from torch import nn

from stylegan_v_mm.evaluation.detectors.i3d import InceptionI3D


@pytest.fixture(scope='session')
def random_i3d_weights():
    """Random state dict; signals keep their size from layer to layer."""
    network = InceptionI3D()
    generator = torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm3d):
            for values, least, most in (
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.3, 2.0),
            ):
                values.uniform_(least, most, generator=generator)
    return network.state_dict()
