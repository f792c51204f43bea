"""Stand-in while the real module is being written; replaced below."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class GpuError(RuntimeError):
    pass


def list_devices() -> list:
    return []


class _L:
    def environ(self):
        return {"CUDA_VISIBLE_DEVICES": ""}


@contextlib.contextmanager
def lease(count, *, wait_s=None, label=""):
    yield _L()
