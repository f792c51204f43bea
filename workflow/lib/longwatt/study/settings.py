"""Merge a study's layers into the one narrow dictionary that each stage gets.

Layers: defaults -> study -> dataset -> budget -> model; later wins. A stage's dictionary holds only
what can change that stage's result, so that a change reruns just what it must.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from longwatt.config.documents import merge, normalise
from longwatt.config.expansion import VARIANT_OF
from longwatt.models import load_family
from longwatt.models.family import attention_path
from longwatt.provenance.stamps import digest
from longwatt.study import cells as grid
from longwatt.study.cells import Cell
from longwatt.study.execution import deciding_settings, execution
from longwatt.study.model_settings import (
    INITIAL_WEIGHTS,
    initial_weights,
    keeps_adapters,
    lora_of,
    prompt_part,
)
from longwatt.tasks import CLASSIFICATION
from longwatt.tokens.prompt_templates import answer_room

# Table 4 and the public code of arXiv 2204.07288, unless a comment says otherwise.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-5,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.001,
    "lr_scheduler": "linear",
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,  # the Trainer's default
    "max_epochs": 50,
    "max_steps": None,
    "max_target_tokens": 1024,  # SCROLLS' own baselines; the paper's code cuts to 128
    "group_by_length": True,
    "padding": "longest",  # the paper's code pads every input to the full length
    "activation_checkpointing": False,
    "log_every_steps": 10,
    "checkpoint_every_s": 600,
    "dataloader_workers": 0,  # cutting stored token ids costs next to nothing
    "validation": {
        "split": "validation",
        "every_steps": 500,
        "patience": 3,
        "max_examples": None,
        "batch_size": 16,
    },
}
TEXT_ALONE = ("max_target_tokens",)  # settings of training that no label needs
# arXiv 2004.07453; its public code has `layer_weights: frozen_random` where that can be chosen.
EXITS_DEFAULTS: dict[str, Any] = {"layer_weights": "learned", "temperatures": None}
# Without a batch size it is that of validations.
CALIBRATION_DEFAULTS: dict[str, Any] = {"split": "validation", "batch_size": None}
# Beside INFERENCE_DEFAULTS, where labels are predicted: the last exit, and eight batches together.
EXIT_DEFAULTS: dict[str, Any] = {"exit": None, "regroup_batches": 8}
# Accuracy is equal if it is not below the standard's.
COMPARISON_OF_EXITS = {"equal_accuracy_points": 0}
GENERATION_DEFAULTS: dict[str, Any] = {
    "max_new_tokens": None,  # the training's max_target_tokens
    "min_new_tokens": 0,
    "num_beams": 1,  # SCROLLS' own baselines
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "early_stopping": False,
}
OF_BEAMS = ("length_penalty", "early_stopping")  # settings that a single beam has no use for
INFERENCE_DEFAULTS: dict[str, Any] = {
    "split": "validation",  # SCROLLS' test labels are hidden
    "batch_size": 16,
    "max_examples": None,
    "warmup_batches": 1,
}
BUDGET_DEFAULTS: dict[str, Any] = {
    "gradient_accumulation_steps": 1,  # but for an effective_batch_size, from which it follows
    "processes": 1,  # on the CPU; with GPUs there is one for each
    "memory_gib_per_gpu": None,
    "precision": "fp32",
}
SCORING_DEFAULTS: dict[str, Any] = {"bootstrap_resamples": 1000, "confidence": 0.95, "seed": 0}
ANSWER_DEFAULTS: dict[str, Any] = {"requests": 1_000_000}
# The defaults are SCROLLS'. The paper's code normalised texts, cut references to 128 tokens and
# counted every reference as an example of its own.
COMPARISON_DEFAULTS = {"text": "raw", "references": "best", "max_reference_tokens": None}

ARCHITECTURE = ("family", "initialisation", "config")  # of a study's model
# Keys of a model in which two may differ that are one model by two paths of attention.
NO_TWIN = ("title", "attention", VARIANT_OF, "search_title")
ORIGIN = ("path", "package", "folder", "repository", "revision")  # of its checkpoint
StudyDocument = Mapping[str, Any]
Settings = dict[str, Any]


def dataset_settings(study: StudyDocument, dataset: str) -> Settings:
    """Return what download_dataset needs: the reader and its options."""
    entry = study["datasets"][dataset]
    task = {"task": CLASSIFICATION} if grid.classifies(study, dataset) else {}
    return _narrow({"source": entry["source"], "options": entry.get("options", {}), **task})


def tokenizer_settings(study: StudyDocument, tokenizer: str) -> Settings:
    """Return what make_tokenizer needs."""
    return _narrow(merge({"min_frequency": 2}, study["tokenizers"][tokenizer]))


def model_source_settings(study: StudyDocument, model: str) -> Settings:
    """Return what download_model needs: a checkpoint's folder, Python package or repository."""
    entry = study["models"][model]
    return _narrow({key: entry[key] for key in ORIGIN if key in entry})


def dataset_key(study: StudyDocument, dataset: str) -> str:
    """Name a dataset's folder below resources/datasets: the id and the digest of its settings."""
    return f"{dataset}-{digest(dataset_settings(study, dataset))[:8]}"


def tokenizer_key(study: StudyDocument, tokenizer: str) -> str:
    """Name a tokenizer's folder below resources/tokenized/{dataset}, as `dataset_key` does."""
    return f"{tokenizer}-{digest(tokenizer_settings(study, tokenizer))[:8]}"


def model_key(study: StudyDocument, model: str) -> str | None:
    """Name a model's folder below resources/models, None if it starts from random weights."""
    entry = study["models"][model]
    if entry["initialisation"] == "random":
        return None
    # Models that begin as one, such as baselines, share what is downloaded under its name.
    end = encoder(entry).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", end).strip("-") or "model"
    return f"{name}-{digest(model_source_settings(study, model))[:8]}"


def attention(study: StudyDocument, model: str) -> str:
    """Return the path of attention that a model is to take, its family's default included."""
    entry = study["models"][model]
    return attention_path(load_family(entry["family"]), entry)


def alike_but_for_attention(study: StudyDocument, model: str) -> str:
    """Name what models share that differ in title and attention alone."""
    entry = study["models"][model]
    kept = {key: value for key, value in entry.items() if key not in NO_TWIN}
    if VARIANT_OF in entry:  # all that a search made of one entry stand for it
        rest = {key: v for key, v in kept["training"].items() if key != "learning_rate"}
        kept["training"] = rest
    return digest({key: value for key, value in kept.items() if value != {}})[:8]


def finetune_settings(study: StudyDocument, cell: Cell) -> Settings:
    """Return all settings that decide a cell's trained weights and their measured cost."""
    training = deciding_settings(_training(study, cell))
    if grid.classifies(study, cell.dataset):
        own = _of_labels(study, cell, training)
    else:
        generation = _generation(study, cell, training)
        own = {"comparison": _scoring(study, COMPARISON_DEFAULTS), "generation": generation}
    return _narrow(
        {
            "tokens": tokens_key(study, cell),
            "checkpoint": model_key(study, cell.model),
            "model": _architecture(study, cell),
            "seq_len": cell.seq_len,
            "protocol": cell.protocol,
            "seed": cell.seed,
            "metric": study["datasets"][cell.dataset]["metric"],
            "budget": _budget(study, cell),
            "training": training,
            **_prompt(study, cell),
            **own,
        }
    )


def execution_settings(study: StudyDocument, cell: Cell) -> Settings:
    """Merge the settings of how a cell is trained, none of which changes its result."""
    return _narrow(execution(_training(study, cell)))


def _training(study: StudyDocument, cell: Cell) -> Settings:
    """Merge all settings of a cell's training, with None for those that another overrules."""
    training = merge(TRAINING_DEFAULTS, *_layers(study, cell, "training"))
    constant = training["lr_scheduler"] == "constant"
    overruled = {"max_epochs": training["max_steps"], "warmup_ratio": constant}
    if not training.get("packing"):  # absent is the same, and what studies had before
        training.pop("packing", None)
    return {name: None if overruled.get(name) else value for name, value in training.items()}


def _prompt(study: StudyDocument, cell: Cell) -> Settings:
    return prompt_part(study["datasets"][cell.dataset], study["models"][cell.model])


def _architecture(study: StudyDocument, cell: Cell) -> Settings:
    """Return what a model is built from, and the path of its attention."""
    model = study["models"][cell.model]
    shape = {key: model.get(key) for key in ARCHITECTURE}
    lora = {"lora": found} if (found := lora_of(model)) else {}
    return {**shape, "attention": attention(study, cell.model), **lora}


def _of_labels(study: StudyDocument, cell: Cell, training: Mapping[str, Any]) -> Settings:
    """Return the settings that a training on labels adds or replaces."""
    model, shape = study["models"][cell.model], _architecture(study, cell)
    if "exits" in model:  # temperatures come after training, and change nothing in it
        exits = {**EXITS_DEFAULTS, **model["exits"]}
        shape["exits"] = {key: exits[key] for key in ("layers", "layer_weights")}
    kept = {key: value for key, value in training.items() if key not in TEXT_ALONE}
    return {
        "task": CLASSIFICATION,
        "encoder": encoder(model),
        "model": shape,
        "training": {**kept, "validation": {"exit": None, **training["validation"]}},
    }


def encoder(model: Mapping[str, Any]) -> str:
    """Name the encoder of a model, by where its weights come from.

    Models of one encoder can be compared.
    """
    if model["initialisation"] == "random":
        return f"random-{digest(model['config'])[:8]}"
    return str(next(model[key] for key in ("repository", "package", "path") if key in model))


# Settings of a training and parts of it that decide how large a batch fits.
PROBED = ("tokens", "checkpoint", "model", "seq_len", "task", "protocol", "generation")
PROBED_OF_TRAINING = ("max_target_tokens", "activation_checkpointing", "max_grad_norm", "packing")
PROBED_OF_VALIDATION = ("split", "max_examples", "batch_size", "exit")


def probe_settings(chosen: Mapping[str, Any]) -> Settings:
    """Return all settings that decide how large a batch fits a device.

    They are a part of `finetune_settings`, and cells that differ in nothing else share a probe.
    """
    budget, training = chosen["budget"], chosen["training"]
    wanted, devices = budget["effective_batch_size"], grid.device_count(budget)
    validation = training["validation"]
    return _narrow(
        {
            **{key: chosen[key] for key in PROBED if key in chosen},
            **{key: training[key] for key in PROBED_OF_TRAINING if key in training},
            "validation": {
                key: validation[key] for key in PROBED_OF_VALIDATION if key in validation
            },
            # Where the steps follow from the batch that the probe finds, it allows for several.
            "gradient_accumulation_steps": 2 if wanted else budget["gradient_accumulation_steps"],
            "devices": devices,
            # No more is worth a try than a step needs of each device.
            "most": wanted and wanted // devices,
            # One device finds it out for all, and allows for what they share.
            "budget": {
                "gpus": min(1, budget["gpus"]),
                "processes": 1,
                **{key: budget[key] for key in ("memory_gib_per_gpu", "precision")},
            },
        }
    )


def probe_key(cell: Cell, chosen: Mapping[str, Any]) -> str | None:
    """Name a probe's folder below resources/batch_sizes, None for a given batch size."""
    if chosen["budget"]["per_device_batch_size"] != grid.LARGEST:
        return None
    return f"{cell.model}-{cell.seq_len}-{cell.budget}-{digest(probe_settings(chosen))[:8]}"


def predict_settings(study: StudyDocument, cell: Cell, inference: str) -> Settings:
    """Return all settings that decide one inference point's predictions and measured speed."""
    training = merge(TRAINING_DEFAULTS, *_layers(study, cell, "training"))
    layers = (study["inference"][inference], *_layers(study, cell, "inference")[1:])
    point = merge(INFERENCE_DEFAULTS, *layers)
    generation = point.pop("generation", {})
    if initial := initial_weights(point):
        point["weights"] = INITIAL_WEIGHTS
    else:
        point.pop("weights", None)
    entry = study["models"][cell.model]
    adapted = {"lora": True} if not initial and keeps_adapters(entry) else {}
    before = {"config": entry.get("config")} if initial else {}
    if grid.classifies(study, cell.dataset):
        alone = {"regroup_batches": 1} if point["batch_size"] == 1 else {}  # nothing to regroup
        own = {"task": CLASSIFICATION, "inference": {**EXIT_DEFAULTS, **point, **alone}}
    else:
        own = {
            "max_target_tokens": training["max_target_tokens"],
            "references": _scoring(study, COMPARISON_DEFAULTS)["references"],
            "inference": point,
            "generation": _generation(study, cell, training, generation),
        }
    return _narrow(
        {
            "family": study["models"][cell.model]["family"],
            "attention": attention(study, cell.model),
            "seq_len": cell.seq_len,
            "protocol": cell.protocol,
            "seed": cell.seed,
            "padding": training["padding"],
            "budget": _devices(study, cell),
            **_prompt(study, cell),
            **adapted,
            **before,
            **own,
        }
    )


def record_settings(study: StudyDocument, cell: Cell, splits: Iterable[str]) -> Settings:
    """Return all settings that decide the recorded logits of a cell with several exits.

    The splits are those of its inference points.
    """
    training = merge(TRAINING_DEFAULTS, *_layers(study, cell, "training"))
    batch_size = _calibration(study, cell)["batch_size"]
    return _narrow(
        {
            "family": study["models"][cell.model]["family"],
            "seq_len": cell.seq_len,
            "seed": cell.seed,
            "padding": training["padding"],
            "batch_size": batch_size or training["validation"]["batch_size"],
            "budget": _devices(study, cell),
            "splits": sorted({calibration_split(study, cell), *splits}),
        }
    )


def calibrate_settings(study: StudyDocument, cell: Cell) -> Settings:
    """Return all settings that decide a cell's temperatures, and through them its predictions."""
    exits = {**EXITS_DEFAULTS, **study["models"][cell.model]["exits"]}
    return _narrow({"split": calibration_split(study, cell), "temperatures": exits["temperatures"]})


def resampling_settings(study: StudyDocument) -> Settings:
    """Return how intervals over examples are found."""
    return _narrow(_scoring(study, SCORING_DEFAULTS))


def answer_settings(study: StudyDocument) -> Settings:
    """Return what the frontier and the answer of a study rest on."""
    return _narrow({**ANSWER_DEFAULTS, **study.get("answer", {})})


def compare_exits_settings(study: StudyDocument) -> Settings:
    """Return how models with exits are compared with their baselines."""
    return _narrow(_scoring(study, SCORING_DEFAULTS, COMPARISON_OF_EXITS))


def calibration_split(study: StudyDocument, cell: Cell) -> str:
    """Return the split on which a cell's temperatures are fitted."""
    return str(_calibration(study, cell)["split"])


def _calibration(study: StudyDocument, cell: Cell) -> Settings:
    layers = (study.get("calibration", {}), study["datasets"][cell.dataset].get("calibration", {}))
    return merge(CALIBRATION_DEFAULTS, *layers)


def _scoring(study: StudyDocument, *defaults: Mapping[str, Any]) -> Settings:
    """Return the settings of scoring that have some defaults."""
    given = study.get("scoring", {})
    return {key: given.get(key, default) for key, default in merge(*defaults).items()}


def score_settings(study: StudyDocument, cell: Cell, inference: str) -> Settings:
    """Return what score needs: examples, main metric, bootstrap, and the length for the ceiling."""
    metric = study["datasets"][cell.dataset]["metric"]
    chosen = predict_settings(study, cell, inference)
    point = chosen["inference"]
    examples = {key: point[key] for key in ("split", "max_examples")}
    if grid.classifies(study, cell.dataset):
        task: Settings = {"task": CLASSIFICATION, "metric": metric}
        return _narrow({**task, **examples, **_scoring(study, SCORING_DEFAULTS)})
    scoring = _scoring(study, SCORING_DEFAULTS, COMPARISON_DEFAULTS)
    seen = {"seq_len": cell.seq_len, **_room_of_prompt(study, cell, chosen)}
    return _narrow({"metric": metric, **seen, **examples, **scoring})


def _room_of_prompt(study: StudyDocument, cell: Cell, chosen: Mapping[str, Any]) -> Settings:
    """Return what decides how much of a document stands in a prompt, nothing without one.

    Args:
        chosen: settings of an inference.
    """
    if not (prompt := _prompt(study, cell)):
        return {}
    return {**prompt, "answer_tokens": answer_room(chosen)}


def tokens_key(study: StudyDocument, cell: Cell) -> str:
    """Name the folder of a cell's token ids below resources/tokenized."""
    tokenizer = study["models"][cell.model]["tokenizer"]
    return f"{dataset_key(study, cell.dataset)}/{tokenizer_key(study, tokenizer)}"


def _layers(study: StudyDocument, cell: Cell, block: str) -> list[Mapping[str, Any]]:
    """List a block's layers in merging order.

    At study level `inference` is per point, so callers skip that layer.
    """
    places = {"datasets": cell.dataset, "budgets": cell.budget, "models": cell.model}
    entries = (study[kind][name] for kind, name in places.items())
    return [study.get(block, {}), *(entry.get(block, {}) for entry in entries)]


def _generation(
    study: StudyDocument, cell: Cell, training: Settings, *of_point: Settings
) -> Settings:
    """Merge all settings of a cell's generation.

    Those that another overrules are their defaults or None. A teacher-forced cell generates
    nothing, but its `max_new_tokens` still decides how long a target its model can hold.
    """
    generation = merge(GENERATION_DEFAULTS, *_layers(study, cell, "generation"), *of_point)
    if generation["max_new_tokens"] is None:
        generation["max_new_tokens"] = training["max_target_tokens"]
    if cell.protocol == grid.TEACHER_FORCED:
        return {**GENERATION_DEFAULTS, "max_new_tokens": generation["max_new_tokens"]}
    return {**generation, **(dict.fromkeys(OF_BEAMS) if generation["num_beams"] == 1 else {})}


def _devices(study: StudyDocument, cell: Cell) -> Settings:
    """Return the settings of a budget that matter to inference."""
    budget = _budget(study, cell)
    return {key: budget[key] for key in ("gpus", "processes", "memory_gib_per_gpu", "precision")}


def _budget(study: StudyDocument, cell: Cell) -> Settings:
    budget = study["budgets"][cell.budget]
    chosen = {key: budget.get(key, default) for key, default in BUDGET_DEFAULTS.items()}
    return {**chosen, "gpus": budget["gpus"], **grid.batch_settings(study, cell)}


def _narrow(settings: Settings) -> Settings:
    normalised: Settings = normalise(settings)
    return normalised
