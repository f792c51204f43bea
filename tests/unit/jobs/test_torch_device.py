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


@pytest.mark.parametrize(
    ("precision", "info", "warns"),
    [
        ("bf16", "flags\t\t: fpu avx2 avx512f\n", True),
        ("bf16", "Features\t: fp asimd\n", True),
        ("bf16", "flags\t\t: fpu avx512_bf16\n", False),
        ("bf16", "Features\t: fp bf16\n", False),
        ("bf16", "processor\t: 0\n", False),
        ("fp32", "flags\t\t: fpu avx2\n", False),
    ],
)
def test_a_cpu_without_bf16_is_warned_of(tmp_path, monkeypatch, capsys, precision, info, warns):
    (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(torch_device, "CPU_INFO", tmp_path / "cpuinfo")
    torch_device.prepare({"precision": precision, "gpus": 0, "memory_gib_per_gpu": None})
    assert ("WARNING: this CPU has no instructions for bf16" in capsys.readouterr().out) == warns
