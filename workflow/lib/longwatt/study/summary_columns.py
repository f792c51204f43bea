"""The summary's columns by name, and the kind of number in each.

Claims name columns and are checked at parse time, so this module imports nothing heavy.
"""

from __future__ import annotations

from longwatt.energy import costs

# The design of models with exits and of their baselines, and the rule by which examples leave.
EXIT_COLUMNS = (
    "exit_kind", "exit_layers", "encoder", "encoder_layers", "exit_rule", "exit_value",
    "inference_batch_size", "mean_layers",
)  # fmt: skip
# Comparisons of both by `longwatt.exits.comparison`, with their intervals.
COMPARED_COLUMNS = (
    "relative_time", "relative_time_ci_low", "relative_time_ci_high", "relative_joules",
    "relative_joules_flags", "speedup_at_equal_accuracy", "speedup_at_equal_accuracy_ci_low",
    "speedup_at_equal_accuracy_ci_high", "accuracy_over_efficient",
    "accuracy_over_efficient_ci_low", "accuracy_over_efficient_ci_high", "ece_before", "ece_after",
    "ece_drop", "ece_drop_ci_low", "ece_drop_ci_high", "train_time_over_standard",
    "relative_time_across", "speedup_across", "efficient_across", "train_time_across",
    "diverged_baselines",
)  # fmt: skip
# Scores that a dataset has where it asks for them.
OTHER_SCORES = (
    "rouge1_unicode", "rouge2_unicode", "rougeL_unicode", "rouge_unicode_geometric_mean",
    "f1_unicode",
)  # fmt: skip
# Costs that points are set against their scores by, and the columns on the front of each. The names
# of points that dominate one stand in the last.
FRONTIER_COSTS = ("train_energy", "lifecycle_energy", "inference_time", "memory", "money")
FRONTIER_COLUMNS = tuple(
    f"frontier_{cost}{end}" for cost in FRONTIER_COSTS for end in ("", "_share", "_by")
)
# Energy and money of a training and of so many requests to the trained model.
LIFE_CYCLE_COLUMNS = (
    "requests", "lifecycle_energy_kwh", "lifecycle_energy_source", "lifecycle_energy_flags",
    "lifecycle_money",
)  # fmt: skip
SCORE_COLUMNS = (
    "score", "score_name", "score_ci_low", "score_ci_high", "score_confidence", "score_lead",
    "score_ceiling", "examples", "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1",
    "exact_match", "accuracy", *OTHER_SCORES, "accuracy_ci_low", "accuracy_ci_high", "macro_f1",
    "macro_f1_ci_low", "macro_f1_ci_high", "majority",
)  # fmt: skip
# The machine behind times and energies of a training and, after INFERENCE, of an inference.
ENVIRONMENT = ("device", "processor", "threads", "pinned", "wait_policy", "processes")
INFERENCE = "inference_"
# All that a row was made with and measured on.
RECORDED = (
    *ENVIRONMENT, *(f"{INFERENCE}{name}" for name in ENVIRONMENT), "data_digest", "weights_digest",
    "train_code_digest", "inference_code_digest", "train_libraries", "inference_libraries",
)  # fmt: skip
COLUMNS = (
    "cell", "dataset", "model", "seq_len", "budget", "protocol", "seed", "inference",
    "cascade_first", "initialisation", "attention", "attention_asked", "inference_attention",
    "attention_regime", "variant_of", "best_validation_score", "selected", "weights", "adaptation",
    *SCORE_COLUMNS, *EXIT_COLUMNS, *COMPARED_COLUMNS,
    "train_samples_per_second", "train_runtime_s", "train_steps_s", "validation_s",
    "train_energy_kwh", "train_energy_source", "train_energy_measured", "train_energy_basis",
    "train_energy_flags",
    "train_steps_energy_kwh", "validation_energy_kwh", "checkpoint_energy_kwh",
    "train_steps_energy_flags", "validation_energy_flags", "checkpoint_energy_flags",
    "train_net_energy_kwh", "train_energy_kwh_paper", "train_crosscheck_pct", "train_mean_power_w",
    "train_idle_power_w", "train_throttled_pct", "train_power_efficiency",
    "train_steps_power_efficiency", "wasted_energy_kwh", "wasted_energy_flags", "wasted_runtime_s",
    "inference_samples_per_second", "inference_runtime_s", "inference_energy_kwh",
    "inference_energy_source", "inference_energy_measured", "inference_energy_basis",
    "inference_energy_flags", "inference_net_energy_kwh", "inference_energy_kwh_paper",
    "inference_crosscheck_pct", "inference_mean_power_w", "inference_power_efficiency",
    "joules_per_example", "joules_per_output_token", "inference_wasted_energy_kwh",
    "inference_wasted_energy_flags", *costs.COST_COLUMNS, *LIFE_CYCLE_COLUMNS,
    *FRONTIER_COLUMNS,
    "mean_gpu_utilization_pct", "mean_gpu_memory_gib", "peak_memory_gib",
    "peak_memory_kind", "effective_batch_size", "per_device_batch_size",
    "max_tokens_per_batch", "gradient_accumulation_steps", "samples", "input_tokens",
    "padding_share", "steps", "best_step", "validations", "ended_by", "diverged_step",
    "stopped_early", "attempts", "parameters", "trainable_parameters", *RECORDED,
)  # fmt: skip
TRAINING_COLUMNS = (
    "train_samples_per_second", "train_runtime_s", "validation_s", "peak_memory_gib",
    "peak_memory_kind", "effective_batch_size", "per_device_batch_size",
    "max_tokens_per_batch", "gradient_accumulation_steps", "samples", "input_tokens",
    "padding_share", "steps", "best_step", "validations", "ended_by", "diverged_step",
    "stopped_early", "parameters", "trainable_parameters", "adaptation", "attention_regime",
    "exit_kind", "exit_layers", "encoder", "encoder_layers",
)  # fmt: skip
INFERENCE_COLUMNS = ("inference_samples_per_second", "inference_runtime_s", "mean_layers")
# Columns without numbers, and the seed, whose size means nothing.
NO_NUMBERS = (
    "cell", "dataset", "model", "budget", "protocol", "seed", "inference", "cascade_first",
    "initialisation", "attention", "attention_asked", "inference_attention",
    "attention_regime", "variant_of", "selected", "weights", "adaptation", "score_name",
    "score_confidence", "train_energy_source",
    "train_energy_measured", "train_energy_basis", "train_energy_flags", "inference_energy_source",
    "inference_energy_basis", "inference_energy_measured", "inference_energy_flags", "grid_source",
    "currency", "train_steps_energy_flags", "validation_energy_flags", "checkpoint_energy_flags",
    "wasted_energy_flags", "inference_wasted_energy_flags", "relative_joules_flags",
    "peak_memory_kind", "ended_by", "stopped_early", "exit_kind", "exit_layers", "encoder",
    "exit_rule", "relative_time_across", "speedup_across", "efficient_across", "train_time_across",
    "diverged_baselines", "lifecycle_energy_source", "lifecycle_energy_flags", *FRONTIER_COLUMNS,
    *RECORDED,
)  # fmt: skip
NUMBER_COLUMNS = tuple(name for name in COLUMNS if name not in NO_NUMBERS)
# Settings, and baselines that follow from the data alone: the same with every seed.
EXACT = (
    "seq_len", "parameters", "trainable_parameters", "examples", "effective_batch_size",
    "max_tokens_per_batch", "score_lead", "score_ceiling", "majority", "encoder_layers",
    "exit_value", "inference_batch_size", "requests",
)  # fmt: skip
_SCORES = (
    "score", "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy",
    "macro_f1", *OTHER_SCORES,
)  # fmt: skip
ACCURACIES = (*_SCORES, "speedup_at_equal_accuracy", "accuracy_over_efficient")
# Columns in the dataset's own metric; the other accuracies are computed for every dataset.
ANY_METRIC = ("score", "score_ci_low", "score_ci_high", "score_lead", "score_ceiling")
# Baselines of each example, and the columns computed from the scores of examples.
BASELINES = ("score_lead", "score_ceiling", "majority")
OF_EXAMPLES = (*_SCORES, *BASELINES)
# Energy of the whole run, validations included, and what it is of the training steps alone.
ENERGY_OF_STEPS = {
    "train_energy_kwh": "train_steps_energy_kwh",
    "train_power_efficiency": "train_steps_power_efficiency",
}
TIME_OF_STEPS = {"train_runtime_s": "train_steps_s"}
_OF_POINTS = frozenset(
    (*SCORE_COLUMNS, *INFERENCE_COLUMNS, *COMPARED_COLUMNS, "exit_rule", "exit_value")
)
# Beginnings of the columns of parts and ratios that have flags of their own.
_OWN_FLAGS = (
    "validation_energy", "checkpoint_energy", "wasted_energy", "inference_wasted_energy",
    "relative_joules",
)  # fmt: skip
LIFE_CYCLE = "lifecycle_"  # beginning of the columns that training and inference make together
_ENERGY_WORDS = ("energy", "power", "gco2e", "joules")


def varies_with_inference(column: str) -> bool:
    """Check whether a cell's inference points may differ in a column."""
    return column in _OF_POINTS or column.startswith(("inference_", "joules_", LIFE_CYCLE))


# Beginnings of the columns that a training's machine decides.
_TRAINING_COSTS = (
    "train_", "validation_", "checkpoint_", "wasted_", "mean_gpu_", "peak_memory_gib",
)  # fmt: skip
_INFERENCE_COSTS = (INFERENCE, "joules_", LIFE_CYCLE)
# Columns relative to a baseline -> the column on how the baseline's machine differs.
RELATIVE_TO_BASELINE = {
    "relative_time": "relative_time_across",
    "relative_joules": "relative_time_across",
    "speedup_at_equal_accuracy": "speedup_across",
    "accuracy_over_efficient": "efficient_across",
    "train_time_over_standard": "train_time_across",
}
# The same columns -> the kind of that baseline, as `diverged_baselines` names it.
BASELINE_KIND = {
    **dict.fromkeys(RELATIVE_TO_BASELINE, "standard"),
    "accuracy_over_efficient": "efficient",
}
INTERVAL_ENDS = ("_ci_low", "_ci_high")


def number_of(column: str) -> str:
    """Return the column of the number whose interval ends here, else the column itself."""
    end = next((end for end in INTERVAL_ENDS if column.endswith(end)), "")
    return column.removesuffix(end)


def machine_columns(column: str) -> tuple[str, ...]:
    """Name the columns on the machine behind a time, speed, energy or memory, else none.

    Those of a life cycle are of the inference, which most of it is.
    """
    if column not in NUMBER_COLUMNS or column in (*EXACT, *RELATIVE_TO_BASELINE):
        return ()
    if column.startswith(_INFERENCE_COSTS):
        return tuple(f"{INFERENCE}{name}" for name in ENVIRONMENT)
    return ENVIRONMENT if column.startswith(_TRAINING_COSTS) else ()


def energy_source(column: str) -> str | None:
    """Name the column with the source of an energy, None for other numbers."""
    if not any(word in column for word in _ENERGY_WORDS):
        return None
    if column.startswith(LIFE_CYCLE):
        return "lifecycle_energy_source"
    return "inference_energy_source" if varies_with_inference(column) else "train_energy_source"


def energy_flags(column: str) -> str | None:
    """Name the column with the flags of an energy, None for other numbers."""
    source = energy_source(column)
    if source is None:
        return None
    if column.startswith("train_steps_"):
        return "train_steps_energy_flags"
    own = (name for name in _OWN_FLAGS if column.startswith(name))
    return next((f"{name}_flags" for name in own), source.replace("source", "flags"))


BETWEEN_VALUES = " / "  # values of several attempts
