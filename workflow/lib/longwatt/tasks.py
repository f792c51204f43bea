"""What a dataset asks for, and a model family gives; a module of its own, since what reads data knows no grid."""

from __future__ import annotations

TEXT, CLASSIFICATION = "text", "classification"
