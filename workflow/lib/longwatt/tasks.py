"""Tasks of datasets and model families, apart since readers of data know no study."""

from __future__ import annotations

TEXT, CLASSIFICATION = "text", "classification"
