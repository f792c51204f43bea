"""Names and colours of an energy log's phases in figures and pages."""

from __future__ import annotations

# Phase -> (its name in a legend, colour); dark to light, so that the order survives greyscale.
PHASES = {
    "train": ("training steps", "#3b528b"),
    "validation": ("validation", "#21918c"),
    "checkpoint": ("checkpoint", "#5ec962"),
    "generate": ("inference", "#31688e"),
    "load": ("loading", "#d0d0d0"),
    "idle_before": ("idle", "#f0f0f0"),
    "idle_after": ("idle", "#f0f0f0"),
    "finish": ("writing results", "#e3dccb"),
}
OTHER = ("other", "#e3dccb")
WASTED = "wasted: lost work, and starting again"
