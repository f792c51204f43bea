"""The peak of memory that a budget limits."""

from __future__ import annotations

import pytest
import torch

from longwatt.jobs import torch_device

CPU = torch.device("cpu")
LARGE = 64 * 2**20  # numbers of 4 bytes: a quarter of a GiB, which is mapped and given back


def forgets_peaks() -> bool:
    try:
        torch_device.PEAKS.write_text(torch_device.FORGET, encoding="ascii")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not forgets_peaks(), reason="this kernel keeps the peaks of processes")
def test_a_peak_can_be_forgotten():
    torch_device.forget_peak(CPU)  # tests before this one may have had a higher one
    before = torch_device.peak_limited_gib(CPU)
    held = torch.ones(LARGE)
    del held
    assert torch_device.peak_limited_gib(CPU) > before + 0.2
    torch_device.forget_peak(CPU)
    assert torch_device.peak_limited_gib(CPU) < before + 0.1
