"""What is refused of a study by itself: parts that name nothing, or do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt import datasets, hub, models
from longwatt.cells import LARGEST, classifies
from longwatt.pretrained import repository_of
from longwatt.study import StudyError, check_name, validate

NEW_FAMILY = (
    "; a new one is one module in workflow/lib/longwatt/models/ with the interface "
    "longwatt.models.family.Family (docs/how-to/add_family.md), and many need none: seq2seq takes "
    "any Hugging Face encoder-decoder without peculiarities"
)
LABEL_METRICS = ("accuracy", "macro_f1")


def check_references(study: Mapping[str, Any], source: str) -> None:
    """Refuse a study whose entries name what does not exist, or hold what does not go together.

    Raises:
        StudyError: names the entry, its key and what would do.
    """
    _check_budget_entries(study, source)
    for name, entry in study["datasets"].items():
        where = f"{source}: datasets.{name}"
        check_name("source", entry["source"], datasets.sources(), f"{where}.source")
        _check_metric(study, name, where)
        schema = datasets.options_schema(entry["source"])
        options = entry.get("options", {})
        validate(options, schema, f"{where}.options")
        found = datasets.repository(entry["source"], options)
        _check_pinned(found[0] if found else None, where)
    for name, entry in study["tokenizers"].items():
        if entry["kind"] == "checkpoint":
            _check_origin(entry, f"{source}: tokenizers.{name}")
    for name, entry in study["models"].items():
        where = f"{source}: models.{name}"
        check_name("family", entry["family"], models.families(), f"{where}.family", NEW_FAMILY)
        check_name("tokenizer", entry["tokenizer"], study["tokenizers"], f"{where}.tokenizer")
        _check_task(study, name, where)
        if entry["initialisation"] == "checkpoint":
            _check_origin(entry, where)
        else:
            _check_pinned(repository_of(entry), where)  # of a model from random weights: whose shape it has


def _check_budget_entries(study: Mapping[str, Any], source: str) -> None:
    """Refuse budgets whose parts do not go together."""
    for name, entry in study["budgets"].items():
        where = f"{source}: budgets.{name}"
        if entry["gpus"] and entry.get("processes", 1) > 1:
            raise StudyError(f"{where}.processes is for budgets without GPUs; with GPUs there is one process for each")
        if entry.get("effective_batch_size") and "gradient_accumulation_steps" in entry:
            raise StudyError(
                f"{where}: gradient_accumulation_steps follows from effective_batch_size; give one of the two"
            )
        if not entry["gpus"] and entry.get("watts_per_gpu") is not None:
            raise StudyError(f"{where}.watts_per_gpu is for budgets with GPUs; on the CPU watts_per_core counts")
        largest = _asks_for_largest(entry["per_device_batch_size"])
        if largest and not entry["gpus"] and entry.get("memory_gib_per_gpu") is None:
            raise StudyError(
                f"{where}: the largest batch on a CPU needs memory_gib_per_gpu, the GiB that each process may take"
            )


def _asks_for_largest(batch: Any) -> bool:
    if isinstance(batch, Mapping):
        return any(_asks_for_largest(value) for value in batch.values())
    return bool(batch == LARGEST)


def _check_metric(study: Mapping[str, Any], dataset: str, where: str) -> None:
    """Refuse to score labels as texts, and texts as labels."""
    metric, labels = study["datasets"][dataset]["metric"], classifies(study, dataset)
    if labels and metric not in LABEL_METRICS:
        raise StudyError(f"{where}.metric: {metric} is no metric of labels; choose {' or '.join(LABEL_METRICS)}")
    if not labels and metric == "macro_f1":
        raise StudyError(f"{where}.metric: macro_f1 is for labels; set task: classification, or choose another metric")


def _check_task(study: Mapping[str, Any], model: str, where: str) -> None:
    """Refuse a model that gives texts where the grid wants labels of it, and the other way round."""
    family = study["models"][model]["family"]
    task = models.load_family(family).task
    for block in study["grid"]:
        for dataset in block["datasets"] if model in block["models"] else ():
            wanted = study["datasets"][dataset].get("task", "text")
            if wanted != task:
                fit = [name for name in models.families() if models.load_family(name).task == wanted]
                raise StudyError(
                    f"{where}.family: {family} is for the task {task}, but datasets.{dataset}.task is {wanted}; "
                    f"families for that: {', '.join(fit)}"
                )


def _check_origin(entry: Mapping[str, Any], where: str) -> None:
    """Refuse a checkpoint that comes from nowhere, or from several places."""
    if sum(origin in entry for origin in ("path", "repository", "package")) != 1:
        raise StudyError(
            f"{where}: a checkpoint comes from a `path`, or from a `repository` and its `revision`, or from the "
            "`folder` of an installed Python `package`; give one"
        )
    _check_pinned(repository_of(entry), where)


def _check_pinned(repository: hub.Repository | None, where: str) -> None:
    """Refuse a branch or a tag, which means something else tomorrow."""
    problem = hub.not_pinned(repository) if repository else None
    if problem:
        raise StudyError(f"{where}.revision: {problem}")
