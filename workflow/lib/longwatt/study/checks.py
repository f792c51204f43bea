"""Refuse studies whose parts name nothing that exists, or contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from longwatt import datasets, models
from longwatt.config.documents import check_name, validate
from longwatt.config.errors import StudyError
from longwatt.hub import client
from longwatt.hub.checkpoints import known_config, repository_of
from longwatt.models.errors import ModelError
from longwatt.models.family import attention_path
from longwatt.study import settings
from longwatt.study.cascade_cells import check_cascade
from longwatt.study.cascades import CASCADE
from longwatt.study.cells import LARGEST, MOST_TOKENS, Cell, classifies, several_exits
from longwatt.study.claims import check_claims, left_out
from longwatt.study.model_settings import initial_weights, keeps_adapters
from longwatt.study.reported import published, report_items, report_settings
from longwatt.study.stages import Stages
from longwatt.study.texts.generation_checks import check_lengths
from longwatt.study.texts.prompt_checks import check_prompt, check_room, check_template

NEW_FAMILY = (
    "; a new one is one module in workflow/lib/longwatt/models/ with the interface "
    "longwatt.models.family.Family (docs/how-to/add_family.md), and many need none: seq2seq takes "
    "any Hugging Face encoder-decoder without peculiarities, causal any decoder-only model"
)
CAUSAL_ENDING = "ForCausalLM"  # how transformers ends the names of such models
LABEL_METRICS = ("accuracy", "macro_f1")


def checked_stages(study_id: str, study: Mapping[str, Any], machine: Mapping[str, Any]) -> Stages:
    """Read and check the jobs of a study, with the arguments of `Stages`.

    Raises:
        StudyError: the study names something that does not exist, or asks for the impossible.
    """
    stages = Stages(study_id, study, machine)
    check_references(study, stages.source)
    for check in assertion_checks(stages):
        check()
    check_cells(stages)
    return stages


def assertion_checks(stages: Stages) -> list[Callable[[], None]]:
    """List the checks of what a study says of its cells: published values, figures, claims."""
    study, source = stages.study, stages.source
    # `exclude` leaves gaps, not errors.
    meant = [*stages.cells.values(), *(cell for cell, _ in left_out(study).values())]
    return [
        partial(published.check_published, study, meant, source),
        partial(report_items.check_items, study, meant, source),
        partial(_check_claims, stages),
    ]


def _check_claims(stages: Stages) -> None:
    rows = report_settings.claim_cells(stages.study, stages.cells, stages.grid_points)
    check_claims(stages.study, rows, stages.source)


def check_references(study: Mapping[str, Any], source: str) -> None:
    """Refuse entries that name what does not exist, or whose parts contradict each other.

    Raises:
        StudyError: names the entry, its key and what would do.
    """
    for check in reference_checks(study, source):
        check()


def reference_checks(study: Mapping[str, Any], source: str) -> Iterator[Callable[[], None]]:
    """Yield the checks of `check_references`, each of one entry of the study."""
    for name in study["budgets"]:
        yield partial(_check_budget, study, source, name)
    for name in study["datasets"]:
        yield partial(_check_dataset, study, source, name)
    for name, entry in study["tokenizers"].items():
        if entry["kind"] == "checkpoint":
            yield partial(_check_origin, entry, f"{source}: tokenizers.{name}")
    for name in study["models"]:
        yield partial(_check_model, study, source, name)


def _check_dataset(study: Mapping[str, Any], source: str, name: str) -> None:
    """Refuse a dataset of an unknown source, or with options that this does not have."""
    entry, where = study["datasets"][name], f"{source}: datasets.{name}"
    check_name("source", entry["source"], datasets.source_names(), f"{where}.source")
    _check_metric(study, name, where)
    check_template(entry, where)
    options = entry.get("options", {})
    validate(options, datasets.options_schema(entry["source"]), f"{where}.options")
    found = datasets.repository(entry["source"], options)
    _check_pinned(found[0] if found else None, where)


def _check_model(study: Mapping[str, Any], source: str, name: str) -> None:
    """Refuse a model of an unknown family, or whose parts contradict each other."""
    entry, where = study["models"][name], f"{source}: models.{name}"
    check_name("family", entry["family"], models.family_names(), f"{where}.family", NEW_FAMILY)
    _check_attention(entry, where)
    check_name("tokenizer", entry["tokenizer"], study["tokenizers"], f"{where}.tokenizer")
    _check_task(study, name, where)
    check_prompt(study, name, where)
    _check_lora(entry, where)
    if entry["initialisation"] == "checkpoint":
        _check_origin(entry, where)
    else:  # a model from random weights may have the shape of a repository's
        _check_pinned(repository_of(entry), where)


def _check_budget(study: Mapping[str, Any], source: str, name: str) -> None:
    """Refuse a budget whose parts contradict each other."""
    entry, where = study["budgets"][name], f"{source}: budgets.{name}"
    if entry["gpus"] and entry.get("processes", 1) > 1:
        raise StudyError(
            f"{where}.processes is for budgets without GPUs; with GPUs there is one process "
            "for each"
        )
    _check_batch(entry, where)
    if entry.get("effective_batch_size") and "gradient_accumulation_steps" in entry:
        raise StudyError(
            f"{where}: gradient_accumulation_steps follows from effective_batch_size; "
            "give one of the two"
        )
    if not entry["gpus"] and entry.get("watts_per_gpu") is not None:
        raise StudyError(
            f"{where}.watts_per_gpu is for budgets with GPUs; on the CPU watts_per_core counts"
        )
    largest = _asks_for_largest(entry.get("per_device_batch_size"))
    if largest and not entry["gpus"] and entry.get("memory_gib_per_gpu") is None:
        raise StudyError(
            f"{where}: the largest batch on a CPU needs memory_gib_per_gpu, the GiB that each "
            "process may take"
        )


def _check_batch(entry: Mapping[str, Any], where: str) -> None:
    """Refuse a budget without a size of its batches, or with two of them."""
    sizes = [key for key in ("per_device_batch_size", MOST_TOKENS) if key in entry]
    if len(sizes) != 1:
        raise StudyError(
            f"{where} has {' and '.join(sizes) or 'no batch size'}; give per_device_batch_size "
            f"(examples that a device computes at once) or {MOST_TOKENS} (tokens that it computes "
            "at once), one of the two"
        )
    if MOST_TOKENS in sizes and entry.get("effective_batch_size"):
        raise StudyError(
            f"{where}: with {MOST_TOKENS} a step has no fixed number of examples, so that it "
            "cannot have effective_batch_size; give gradient_accumulation_steps, or "
            "per_device_batch_size in place of the tokens"
        )


def _asks_for_largest(batch: Any) -> bool:
    if isinstance(batch, Mapping):
        return any(_asks_for_largest(value) for value in batch.values())
    return bool(batch == LARGEST)


def _check_metric(study: Mapping[str, Any], dataset: str, where: str) -> None:
    """Refuse to score labels as texts, and texts as labels."""
    metric, labels = study["datasets"][dataset]["metric"], classifies(study, dataset)
    if labels and metric not in LABEL_METRICS:
        raise StudyError(
            f"{where}.metric: {metric} is no metric of labels; choose {' or '.join(LABEL_METRICS)}"
        )
    if not labels and metric == "macro_f1":
        raise StudyError(
            f"{where}.metric: macro_f1 is for labels; set task: classification, or choose another "
            "metric"
        )


def _check_attention(entry: Mapping[str, Any], where: str) -> None:
    """Refuse a path of attention that the model's family does not offer."""
    try:
        attention_path(models.load_family(entry["family"]), entry)
    except ModelError as error:
        raise StudyError(f"{where}.attention: {error}") from None


def _check_lora(entry: Mapping[str, Any], where: str) -> None:
    """Refuse adapters on random weights, and beside parts of a model that are trained whole."""
    if "lora" not in entry:
        return
    if entry["initialisation"] == "random":
        raise StudyError(
            f"{where}.lora keeps the weights it begins with, and random ones are worth nothing; "
            "set `initialisation: checkpoint`, or take `lora` out"
        )
    whole = models.load_family(entry["family"]).trained_whole
    if whole and keeps_adapters(entry):
        raise StudyError(
            f"{where}.lora.merge must be true: the family {entry['family']} trains "
            f"{' and '.join(whole)} whole, so adapters alone would not be its model"
        )


def _check_task(study: Mapping[str, Any], model: str, where: str) -> None:
    """Refuse a model that gives texts where the grid wants labels, or vice versa."""
    family = study["models"][model]["family"]
    task = models.load_family(family).task
    blocks = (block["datasets"] for block in study["grid"] if model in block["models"])
    for dataset in chain.from_iterable(blocks):
        wanted = study["datasets"][dataset].get("task", "text")
        if wanted != task:
            fit = [one for one in models.family_names() if models.load_family(one).task == wanted]
            raise StudyError(
                f"{where}.family: {family} is for the task {task}, but datasets.{dataset}.task is "
                f"{wanted}; families for that: {', '.join(fit)}"
            )


def _check_origin(entry: Mapping[str, Any], where: str) -> None:
    """Refuse a checkpoint with no origin, or with several."""
    if sum(origin in entry for origin in ("path", "repository", "package")) != 1:
        raise StudyError(
            f"{where}: a checkpoint comes from a `path`, or from a `repository` and its "
            "`revision`, or from the `folder` of an installed Python `package`; give one"
        )
    _check_pinned(repository_of(entry), where)


def _check_pinned(repository: client.Repository | None, where: str) -> None:
    """Refuse a branch or a tag, whose meaning may change."""
    if repository and (problem := client.not_pinned(repository)):
        raise StudyError(f"{where}.revision: {problem}")


def known_configs(stages: Stages) -> dict[str, dict[str, Any]]:
    """Read the config.json of each model, empty where it is not available yet."""
    found: dict[str, dict[str, Any]] = {}
    for model in {cell.model for cell in stages.cells.values()}:
        key, entry = settings.model_key(stages.study, model), stages.study["models"][model]
        found[model] = known_config(entry, Path("resources/models", key)) if key else {}
    return found


def check_cells(stages: Stages) -> None:
    """Refuse impossible splits and lengths, as far as checkpoints' configurations are available.

    Raises:
        StudyError: names the cell or the key, and what would do.
    """
    for check in cell_checks(stages):
        check()


def cell_checks(stages: Stages) -> Iterator[Callable[[], None]]:
    """Yield the checks of `check_cells`, several for each cell."""
    configs = known_configs(stages)
    # One of the cells that differ in the seed alone: what fits one fits all.
    first: dict[Cell, str] = {}
    for name, cell in stages.cells.items():
        first.setdefault(replace(cell, seed=0), name)
    for name in first.values():  # found here, not hours later
        checked = _Checked(stages, name)
        yield checked.check_splits
        yield checked.check_exits
        yield checked.check_packing
        yield checked.check_batch
        yield checked.check_initial
        yield partial(checked.check_family, configs[checked.cell.model])
        yield checked.check_cascades
        yield partial(checked.check_lengths, configs[checked.cell.model])


class _Checked:
    """Checks of one cell."""

    def __init__(self, stages: Stages, name: str) -> None:
        self.study, self.source, self.name = stages.study, stages.source, name
        self.stages = stages
        self.cell = stages.cell(name)
        self.several = several_exits(self.study, self.cell.model)
        self.chosen = stages.finetune(name).settings
        self.points = {point: stages.predict(name, point).settings for point in stages.points(name)}

    def check_splits(self) -> None:
        """Refuse a cell that uses a split which its dataset will not have."""
        dataset = self.cell.dataset
        entry = self.study["datasets"][dataset]
        there = datasets.splits(entry["source"], entry.get("options", {}))
        validation = self.chosen["training"]["validation"]
        used = {"training": "train", "training.validation.split": validation["split"]}
        used |= {
            f"inference.{key}.split": p["inference"]["split"] for key, p in self.points.items()
        }
        if self.several:
            used["calibration.split"] = settings.calibration_split(self.study, self.cell)
        for key, split in used.items():
            if split not in there:
                raise StudyError(
                    f"{self.source}: {key} needs the split {split!r}, but datasets.{dataset} has "
                    f"only {', '.join(there)}; choose one of those, or give the dataset that split "
                    "in its options"
                )

    def check_exits(self) -> None:
        """Refuse exit rules for models without exits, and judging on the split of the fit."""
        split = settings.calibration_split(self.study, self.cell)
        if self.several and split == "train":
            raise StudyError(
                f"{self.source}: calibration.split is train, on which {self.name} is trained: a "
                "model is too sure of what it has seen; choose another split (the source "
                "`labelled` makes one by `held_out`)"
            )
        for key, point in self.points.items():
            where, chosen = f"{self.source}: inference.{key}", point["inference"]
            if chosen.get("exit") and not self.several:
                raise StudyError(
                    f"{where}.exit is {chosen['exit']}, but models.{self.cell.model} of the cell "
                    f"{self.name} has no exit before its last; name the points of its cells in "
                    "their block of the grid (`inference`)"
                )
            if self.several and chosen["split"] == split:
                raise StudyError(
                    f"{where}.split is {split}, on which calibration.split has the temperatures of "
                    f"{self.name} fitted too; choose two different splits, or the confidences "
                    "would be judged by what they were fitted to"
                )

    def check_packing(self) -> None:
        """Refuse packed rows of a family that pads, and padding beside them."""
        family, training = self.chosen["model"]["family"], self.chosen["training"]
        if not training.get("packing"):
            return
        where = f"{self.source}: cell {self.name}: training.packing is true, but"
        if not models.load_family(family).packs:
            able = [one for one in models.family_names() if models.load_family(one).packs]
            raise StudyError(
                f"{where} the family {family} pads its batches; families that pack: "
                f"{', '.join(able)}. Set it to false in the `training` of models."
                f"{self.cell.model}"
            )
        if training["padding"] == "max_length":
            raise StudyError(
                f"{where} training.padding is max_length, and packed rows have no padding; leave "
                "out one of the two"
            )

    def check_batch(self) -> None:
        """Refuse a batch of so few tokens that it may not hold one example."""
        most = self.chosen["budget"].get(MOST_TOKENS)
        if most is not None and most < self.cell.seq_len:
            raise StudyError(
                f"{self.source}: budgets.{self.cell.budget}.{MOST_TOKENS} is {most}, but one "
                f"example of the cell {self.name} may have {self.cell.seq_len} tokens (seq_len); "
                "raise it to that at least, or give a table by model and length"
            )

    def check_initial(self) -> None:
        """Refuse to predict before training where nothing could be predicted."""
        before = [key for key, p in self.points.items() if initial_weights(p["inference"])]
        if not before:
            return
        where = f"{self.source}: inference.{before[0]}.weights is initial"
        here = "name the points of its cells in their block of the grid (`inference`)"
        model = self.cell.model
        if self.study["models"][model]["initialisation"] == "random":
            raise StudyError(
                f"{where}, but models.{model} begins from random weights, which can do nothing "
                f"before training; {here}"
            )
        if "task" in self.chosen:
            raise StudyError(
                f"{where}, but the classifiers of models.{model} know nothing before training; "
                f"{here}"
            )
        if len(before) == len(self.points):
            raise StudyError(
                f"{where}, and {self.name} has no other point: its training would serve nothing; "
                "add a point with trained weights"
            )

    def check_family(self, config: Mapping[str, Any]) -> None:
        """Refuse a decoder-only checkpoint as an encoder-decoder, by its `config`."""
        built = str(next(iter(config.get("architectures") or ()), ""))
        alone = built.endswith(CAUSAL_ENDING) and not config.get("is_encoder_decoder")
        if self.chosen["model"]["family"] == "seq2seq" and alone:
            raise StudyError(
                f"{self.source}: models.{self.cell.model}.family: seq2seq takes encoder-decoders, "
                f"but the checkpoint's is a {built}, which is decoder-only; say `family: causal`"
            )

    def check_cascades(self) -> None:
        """Refuse cascades that cannot be fitted, or would be judged where they were."""
        for point in self.points:
            if cascade := self.stages.cascade(point):
                first = self.stages.first(self.name, point)
                names = (one for one in self.stages.points(first) if one != point)
                firsts = {one: self.stages.predict(first, one).settings for one in names}
                where = f"{self.source}: inference.{point}.{CASCADE}"
                check_cascade(point, cascade, self.points, firsts, where)

    def check_lengths(self, config: Mapping[str, Any]) -> None:
        """Refuse inputs or targets that are too long for the model, by `config`."""
        targets = [1]  # a label
        if "generation" in self.chosen:
            targets = [self.chosen["training"]["max_target_tokens"]]
            generating = (self.chosen, *self.points.values())
            targets += [chosen["generation"]["max_new_tokens"] for chosen in generating]
            self._check_generation()
        given = self.chosen["model"]["config"] or {}
        known, exits = {**config, **given}, self.study["models"][self.cell.model].get("exits")
        family = models.load_family(self.chosen["model"]["family"])
        try:
            family.check(known, given, self.cell.seq_len, max(targets), exits)
        except ModelError as error:
            raise StudyError(f"{self.source}: cell {self.name}: {error}") from None

    def _check_generation(self) -> None:
        """Refuse targets or answers without room for a word, or that contradict each other."""
        points = {f"inference.{key}.generation": p["generation"] for key, p in self.points.items()}
        found = {"generation": self.chosen["generation"], **points}
        tokenizer = self.study["tokenizers"][self.study["models"][self.cell.model]["tokenizer"]]
        most, prompted = self.chosen["training"]["max_target_tokens"], "prompt" in self.chosen
        problem = check_lengths(most, found, tokenizer, prompted)
        for chosen in (self.chosen, *self.points.values()) if prompted else ():
            problem = problem or check_room(chosen)
        if problem:
            raise StudyError(f"{self.source}: cell {self.name}: {problem}")
