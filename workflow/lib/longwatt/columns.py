"""The summary's columns by name, and what kind of number each is.

Claims name columns, and are checked at parse time, so this module imports nothing heavy.
"""

from __future__ import annotations

from longwatt import costs

COLUMNS = (
    "cell", "dataset", "model", "seq_len", "budget", "protocol", "seed", "inference", "initialisation",
    "attention_regime",
    "score", "score_name", "score_ci_low", "score_ci_high", "score_confidence", "score_lead", "score_ceiling",
    "examples",
    "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy",
    "train_samples_per_second", "train_runtime_s", "train_steps_s", "validation_s",
    "train_energy_kwh", "train_energy_source", "train_energy_measured", "train_energy_flags",
    "train_steps_energy_kwh", "validation_energy_kwh", "checkpoint_energy_kwh", "train_net_energy_kwh",
    "train_energy_kwh_paper", "train_crosscheck_pct", "train_mean_power_w", "train_idle_power_w", "train_throttled_pct",
    "train_power_efficiency", "train_steps_power_efficiency", "wasted_energy_kwh", "wasted_runtime_s",
    "inference_samples_per_second", "inference_runtime_s", "inference_energy_kwh",
    "inference_energy_source", "inference_energy_measured", "inference_energy_flags", "inference_net_energy_kwh",
    "inference_energy_kwh_paper", "inference_crosscheck_pct", "inference_mean_power_w",
    "inference_power_efficiency", "joules_per_example", "joules_per_output_token", "inference_wasted_energy_kwh",
    *costs.COLUMNS,
    "mean_gpu_utilization_pct", "mean_gpu_memory_gib", "peak_memory_gib", "peak_memory_kind",
    "effective_batch_size", "per_device_batch_size", "gradient_accumulation_steps",
    "samples", "input_tokens", "steps", "best_step", "validations",
    "stopped_early", "attempts", "parameters", "device",
)  # fmt: skip
FROM_TRAINING = (
    "train_samples_per_second", "train_runtime_s", "validation_s", "peak_memory_gib", "peak_memory_kind",
    "effective_batch_size", "per_device_batch_size", "gradient_accumulation_steps",
    "samples", "input_tokens", "steps", "best_step", "validations",
    "stopped_early", "parameters", "device", "attention_regime",
)  # fmt: skip
FROM_SCORES = (
    "score", "score_name", "score_ci_low", "score_ci_high", "score_confidence", "score_lead", "score_ceiling",
    "examples",
    "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy",
)  # fmt: skip
FROM_INFERENCE = ("inference_samples_per_second", "inference_runtime_s")
# What is no number, or (the seed) none that means more or less of anything.
NO_NUMBERS = (
    "cell", "dataset", "model", "budget", "protocol", "seed", "inference", "initialisation", "attention_regime",
    "score_name", "score_confidence", "train_energy_source", "train_energy_measured", "train_energy_flags",
    "inference_energy_source", "inference_energy_measured", "inference_energy_flags", "grid_source", "currency",
    "peak_memory_kind", "stopped_early", "device",
)  # fmt: skip
NUMBERS = tuple(name for name in COLUMNS if name not in NO_NUMBERS)
# Settings, and baselines that follow from the data alone: the same with every seed.
EXACT = ("seq_len", "parameters", "examples", "effective_batch_size", "score_lead", "score_ceiling")
ACCURACIES = ("score", "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy")
# Those in whatever a dataset's metric is; the others are made of every dataset.
ANY_METRIC = ("score", "score_ci_low", "score_ci_high", "score_lead", "score_ceiling")
# Energy of the whole run, validations included, and what it is of the training steps alone.
ENERGY_OF_STEPS = {
    "train_energy_kwh": "train_steps_energy_kwh",
    "train_power_efficiency": "train_steps_power_efficiency",
}
TIME_OF_STEPS = {"train_runtime_s": "train_steps_s"}
_ENERGY_WORDS = ("energy", "power", "gco2e", "joules")


def varies_with_inference(column: str) -> bool:
    """Whether a cell's inference points may differ in a column; a training's columns are repeated for each."""
    return column in FROM_SCORES or column.startswith(("inference_", "joules_"))


def energy_source(column: str) -> str | None:
    """The column that says how an energy was come by; None for what is no energy."""
    if not any(word in column for word in _ENERGY_WORDS):
        return None
    return "inference_energy_source" if varies_with_inference(column) else "train_energy_source"
