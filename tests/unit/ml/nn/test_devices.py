"""Devices: the CPU is always there, and ``auto`` is one that is."""

import torch

from app.ml.nn import devices


def test_the_cpu_is_available_and_taken_when_asked() -> None:
    assert devices.available("cpu")
    assert devices.pick("cpu") == torch.device("cpu")


def test_auto_is_a_device_that_is_available() -> None:
    assert devices.available(devices.pick("auto").type)


def test_cuda_is_available_where_torch_says_so() -> None:
    assert devices.available("cuda") == torch.cuda.is_available()
