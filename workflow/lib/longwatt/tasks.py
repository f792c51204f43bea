"""Tasks of datasets and of model families, known to the readers of data without any study."""

from __future__ import annotations

TEXT, CLASSIFICATION = "text", "classification"
