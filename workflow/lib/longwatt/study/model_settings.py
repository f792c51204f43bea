"""Merge the settings of a model's prompts and adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.models import load_family

# Text around a document, in place of which `{input}` stands, and of its query `{query}`.
DEFAULT_PROMPT = "{query}\n\n{input}\n\n"
LORA_DEFAULTS: dict[str, Any] = {
    "kind": "lora",
    "rank": 16,
    "alpha": 32,
    "dropout": 0,
    "target_modules": None,
    "merge": False,
}
# Weights that an inference point may predict with: those before training, and those after it.
INITIAL_WEIGHTS, TRAINED_WEIGHTS = "initial", "trained"


def prompt_part(dataset: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return `prompt` (template and chat) where a model's family has prompts, else nothing.

    Args:
        dataset, model: entries of a study.
    """
    if not load_family(model["family"]).prompted:
        return {}
    template = model.get("prompt", dataset.get("prompt", DEFAULT_PROMPT))
    return {"prompt": {"template": template, "chat": model.get("chat", False)}}


def lora_of(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a model's settings of adapters, None where all its weights are trained."""
    return {**LORA_DEFAULTS, **model["lora"]} if "lora" in model else None


def keeps_adapters(model: Mapping[str, Any]) -> bool:
    """Return whether a trained model is kept as adapters beside its base."""
    found = lora_of(model)
    return found is not None and not found["merge"]


def initial_weights(point: Mapping[str, Any]) -> bool:
    """Return whether an inference point predicts with the model before training."""
    return bool(point.get("weights") == INITIAL_WEIGHTS)
