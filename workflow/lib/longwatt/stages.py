"""Every job of a study as data: its artefact, its narrow settings, the code behind it by name."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from longwatt import costs, datasets, displays, hub, hyperparameters, models, priorities, published, settings
from longwatt.cells import CLASSIFICATION, LARGEST, Cell, classifies, devices, expand, points
from longwatt.claim_settings import check_claims, claims_of, left_out
from longwatt.expansion import VARIANT_OF
from longwatt.models.errors import ModelError
from longwatt.pretrained import (
    CONFIG,
    checkpoint_files,
    choose_config,
    choose_model,
    choose_tokenizer,
    local_folder,
    missing_checkpoint,
    missing_tokenizer,
    missing_weights,
    repository_of,
)
from longwatt.provenance import ANEW, Stage, read_object
from longwatt.runtime_model import FINETUNE, RuntimeModel
from longwatt.study import StudyError, check_name, validate

CLAIM_KINDS = ("html", "md", "json")

DEMO = "demo"  # the embedded study
NEW_FAMILY = (
    "; a new one is one module in workflow/lib/longwatt/models/ with the interface longwatt.models.family.Family "
    "(docs/adding.md), and many need none: seq2seq takes any Hugging Face encoder-decoder without peculiarities"
)
POWER = "Power over time"  # category of the report with a figure for each cell
# Options of Snakemake's with which it runs no job.
NO_JOBS = ("lint", "unlock", "list_rules", "list_target_rules", "summary", "detailed_summary", "dag", "rulegraph",
           "filegraph", "d3dag")  # fmt: skip
TELLING = {"partial", "plan", "compare"}  # targets that read what is there and train nothing
LABEL_METRICS = ("accuracy", "macro_f1")
LASTING = ("finetune", "predict", "record_exits")  # rules whose jobs keep what they have done so far
TRAINED = ("model", "history.csv", "energy.jsonl.gz")


P = ParamSpec("P")
Answer = TypeVar("Answer")


def _remembered(
    method: Callable[Concatenate[Stages, P], Answer],
) -> Callable[Concatenate[Stages, P], Answer]:
    """Let a method of Stages answer each question once; Snakemake asks several times for each of thousands of jobs.

    Answers are shared between those who ask, and must not be changed.
    """

    @wraps(method)
    def answer(self: Stages, /, *arguments: P.args, **named: P.kwargs) -> Answer:
        known = self._answers.setdefault(method.__name__, {})
        question = (*arguments, *named.items())
        if question not in known:
            known[question] = method(self, *arguments, **named)
        found: Answer = known[question]
        return found

    return answer


class StaleReport(RuntimeError):
    """A report was asked for, but the summary does not speak of the results beside it."""


class Stages:
    """The jobs of one study, looked up by the wildcards of their rules.

    Args:
        study_id: the study file's name, and its folder below results/.
        study: a study read by `longwatt.study.read_study`.
        machine: config.yaml; only what a stage's result depends on is taken from it.

    Raises:
        StudyError: the study names something that does not exist.
    """

    def __init__(self, study_id: str, study: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        self._answers: dict[str, dict[tuple[object, ...], Any]] = {}
        self.study_id = study_id
        self.study = study
        self.machine = machine
        self.cells = expand(study, f"studies/{study_id}.yaml")
        _check_references(study, f"studies/{study_id}.yaml")
        used = list(self.cells.values())
        meant = [*used, *(cell for cell, _ in left_out(study).values())]  # `exclude` leaves gaps, not errors
        published.check(study, meant, f"studies/{study_id}.yaml")
        displays.check(study, meant, f"studies/{study_id}.yaml")
        self.datasets = {settings.dataset_key(study, c.dataset): c.dataset for c in used}
        tokenizers = [study["models"][c.model]["tokenizer"] for c in used]
        self.tokenizers = {settings.tokenizer_key(study, t): t for t in tokenizers}
        named_models = {settings.model_key(study, c.model): c.model for c in used}
        self.models = {key: model for key, model in named_models.items() if key}
        self.probes = {key: name for name in self.cells if (key := self.probe(name))}
        self.inferences = sorted(study["inference"])
        self._points = points(study)
        self.claims = claims_of(study)
        check_claims(study, self.claim_cells(), f"studies/{study_id}.yaml")
        self.check_cells()

    def check_cells(self) -> None:
        """Refuse splits and lengths that cannot be, as far as the checkpoints' configurations are at hand.

        Raises:
            StudyError: names the cell or the key, and what would do.
        """
        configs = {model: self._checkpoint_config(model) for model in {cell.model for cell in self.cells.values()}}
        for name, cell in self._one_of_all_seeds().items():  # found here, not hours later
            chosen = self.finetune(name).settings
            found = {point: self.predict(name, point).settings for point in self.points(name)}
            self._check_splits(cell, chosen, found)
            self._check_exits(name, cell, found)
            self._check_lengths(name, cell, chosen, found, configs[cell.model])

    def _one_of_all_seeds(self) -> dict[str, Cell]:
        """The first cell of every group that differs in the seed alone, by name; what fits one fits all."""
        first: dict[Cell, str] = {}
        for name, cell in self.cells.items():
            first.setdefault(replace(cell, seed=0), name)
        return {name: self.cells[name] for name in first.values()}

    def _check_splits(self, cell: Cell, chosen: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse a cell that uses a split which its dataset will not have."""
        entry = self.study["datasets"][cell.dataset]
        there = datasets.splits(entry["source"], entry.get("options", {}))
        used = {"training": "train", "training.validation.split": chosen["training"]["validation"]["split"]}
        used |= {f"inference.{name}.split": point["inference"]["split"] for name, point in points.items()}
        if self._several_exits(cell.model):
            used["calibration.split"] = settings.calibration_split(self.study, cell)
        for key, split in used.items():
            if split not in there:
                raise StudyError(
                    f"studies/{self.study_id}.yaml: {key} needs the split {split!r}, but datasets.{cell.dataset} has "
                    f"only {', '.join(there)}; choose one of those, or give the dataset that split in its options"
                )

    def _check_exits(self, name: str, cell: Cell, points: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse exit rules where nothing can leave early, and temperatures fitted on what they are judged by."""
        several, split = self._several_exits(cell.model), settings.calibration_split(self.study, cell)
        for key, point in points.items():
            where, chosen = f"studies/{self.study_id}.yaml: inference.{key}", point["inference"]
            if chosen.get("exit") and not several:
                raise StudyError(
                    f"{where}.exit is {chosen['exit']}, but models.{cell.model} of the cell {name} has no exit before "
                    "its last; name the points of its cells in their block of the grid (`inference`)"
                )
            if several and chosen["split"] == split:
                raise StudyError(
                    f"{where}.split is {split}, on which calibration.split has the temperatures of {name} fitted too; "
                    "choose two different splits, or the confidences would be judged by what they were fitted to"
                )

    def _several_exits(self, model: str) -> bool:
        return len(self.study["models"][model].get("exits", {}).get("layers", ())) > 1

    def _check_lengths(
        self,
        name: str,
        cell: Cell,
        chosen: Mapping[str, Any],
        points: Mapping[str, Mapping[str, Any]],
        config: Mapping[str, Any],
    ) -> None:
        """Refuse a cell whose inputs or targets its model cannot hold, as far as its configuration is known yet."""
        targets = [1]  # a label
        if "generation" in chosen:
            targets = [chosen["training"]["max_target_tokens"], chosen["generation"]["max_new_tokens"]]
            targets += [point["generation"]["max_new_tokens"] for point in points.values()]
        given = chosen["model"]["config"] or {}
        known, exits = {**config, **given}, self.study["models"][cell.model].get("exits")
        try:
            models.load_family(chosen["model"]["family"]).check(known, given, cell.seq_len, max(targets), exits)
        except ModelError as error:
            raise StudyError(f"studies/{self.study_id}.yaml: cell {name}: {error}") from None

    def _checkpoint_config(self, model: str) -> dict[str, Any]:
        """The config.json of a pretrained model, from resources/ or where it comes from; empty if not to be had yet."""
        key = settings.model_key(self.study, model)
        if key is None:
            return {}
        copied = read_object(Path(self.download_model(key).artefact).with_name(CONFIG))
        repository, folder = self.repository(key), self.checkpoint(key)
        origin = hub.cached(repository, CONFIG) if repository else folder and folder / CONFIG
        return copied or (read_object(origin) if origin else {})

    @property
    def results(self) -> str:
        """The study's results folder."""
        return f"results/{self.study_id}"

    def cell(self, name: str) -> Cell:
        """Look a cell up by its id.

        Raises:
            StudyError: the study has no such cell.
        """
        if name not in self.cells:
            check_name("cell", name, self.cells, f"studies/{self.study_id}.yaml")
        return self.cells[name]

    def download_dataset(self, key: str) -> Stage:
        """Records of one dataset."""
        chosen = settings.dataset_settings(self.study, self.datasets[key])
        module = f"longwatt.datasets.{chosen['source']}"
        return Stage("download_dataset", f"resources/datasets/{key}/dataset.json", chosen, (module,))

    def dataset_files(self, key: str) -> list[str]:
        """The local files that a dataset is read from.

        Named even if they are gone: Snakemake then keeps what was made from them, while another set of inputs would
        have it made again.
        """
        chosen = settings.dataset_settings(self.study, self.datasets[key])
        return datasets.files(chosen["source"], chosen["options"])

    def download_model(self, key: str) -> Stage:
        """Weights and configuration of one pretrained model."""
        chosen = settings.model_source_settings(self.study, self.models[key])
        return Stage("download_model", f"resources/models/{key}/model.json", chosen)

    def model_files(self, key: str) -> list[str]:
        """The checkpoint files that download_model copies, or copied if they are gone (see `dataset_files`)."""
        entry = self.study["models"][self.models[key]]
        if self.repository(key) is not None or "package" in entry:
            return []  # a pinned revision or package never changes, wherever and whenever it was installed
        folder = Path(entry["path"]).expanduser()
        copied = read_object(Path(self.download_model(key).artefact)).get("sha256", {})
        return sorted(map(str, checkpoint_files(folder))) or sorted(str(folder / name) for name in copied)

    def repository(self, key: str) -> hub.Repository | None:
        """The hub's repository that a pretrained model comes from; None if it comes from a folder or a package."""
        return repository_of(self.study["models"][self.models[key]])

    def checkpoint(self, key: str) -> Path | None:
        """The folder that a pretrained model comes from; None if its package is not installed, or it is the hub's."""
        return local_folder(self.study["models"][self.models[key]])

    def tokenizer_files(self, key: str) -> list[str]:
        """The file of a checkpoint's own tokenizer in a folder of the user's; none for others."""
        path = self.study["tokenizers"][self.tokenizers[key]].get("path")
        return [str(Path(path).expanduser() / "tokenizer.json")] if path else []

    def make_tokenizer(self, dataset: str, tokenizer: str) -> Stage:
        """A tokenizer trained on a dataset's training split, or a checkpoint's own."""
        chosen = settings.tokenizer_settings(self.study, self.tokenizers[tokenizer])
        path = f"resources/tokenizers/{dataset}/{tokenizer}/provenance.json"
        return Stage("make_tokenizer", path, {"dataset": dataset, **chosen})

    def tokenize_dataset(self, dataset: str, tokenizer: str) -> Stage:
        """Token ids of a dataset's whole inputs."""
        path = f"resources/tokenized/{dataset}/{tokenizer}/tokenized.json"
        return Stage("tokenize_dataset", path, {"dataset": dataset, "tokenizer": tokenizer})

    def points(self, name: str) -> list[str]:
        """A cell's inference points."""
        return self._points[self.cell(name).name]

    def probe_batch_size(self, key: str) -> Stage:
        """The largest batch of the cells that share a probe."""
        chosen = settings.probe_settings(self.finetune(self.probes[key]).settings)
        module = f"longwatt.models.{chosen['model']['family']}"
        return Stage("probe_batch_size", f"resources/batch_sizes/{key}/probe.json", chosen, (module,))

    def probe_inputs(self, key: str) -> dict[str, str]:
        """What a probe needs: what its cells train on."""
        return self.inputs(self.probes[key])

    @_remembered
    def probe(self, name: str) -> str | None:
        """The probe of a cell; None where its batch size is given."""
        return settings.probe_key(self.cell(name), self.finetune(name).settings)

    def finetune_inputs(self, name: str) -> dict[str, str]:
        """What a training needs beside `inputs`: the batch size where it is found out."""
        key = self.probe(name)
        found = {"batch_size": f"resources/batch_sizes/{key}/batch_size.json"} if key else {}
        return {**self.inputs(name), **found}

    @_remembered
    def finetune(self, name: str) -> Stage:
        """One cell's training."""
        chosen = settings.finetune_settings(self.study, self.cell(name))
        module = f"longwatt.models.{chosen['model']['family']}"
        return Stage("finetune", f"{self.results}/{name}/finetune/training.json", chosen, (module,))

    @_remembered
    def predict(self, name: str, inference: str) -> Stage:
        """One inference point of a cell."""
        chosen = settings.predict_settings(self.study, self.cell(name), inference)
        path = f"{self.results}/{name}/predict/{inference}/inference.json"
        return Stage("predict", path, chosen, (f"longwatt.models.{chosen['family']}",))

    def predict_inputs(self, name: str) -> dict[str, str]:
        """What an inference needs: data, and the trained model, calibrated where it has several exits."""
        folder = f"{self.results}/{name}"
        found = {**self.inputs(name), "training": f"{folder}/finetune/training.json"}
        if not self._several_exits(self.cell(name).model):
            return {**found, "model": f"{folder}/finetune/model"}
        return {**found, "model": f"{folder}/calibrate/model", "calibration": self.calibrate(name).artefact}

    @cached_property
    def with_exits(self) -> list[str]:
        """The cells whose models have several exits, by name."""
        return [name for name, cell in self.cells.items() if self._several_exits(cell.model)]

    @_remembered
    def record_exits(self, name: str) -> Stage:
        """What every classifier of a cell says of the splits that matter."""
        splits = [self.predict(name, point).settings["inference"]["split"] for point in self.points(name)]
        chosen = settings.record_settings(self.study, self.cell(name), splits)
        return Stage(
            "record_exits", f"{self.results}/{name}/exits/exits.json", chosen, (f"longwatt.models.{chosen['family']}",)
        )

    @_remembered
    def calibrate(self, name: str) -> Stage:
        """The temperatures of a cell's classifiers."""
        chosen = settings.calibrate_settings(self.study, self.cell(name))
        return Stage("calibrate", f"{self.results}/{name}/calibrate/calibration.json", chosen)

    @_remembered
    def compare_exits(self) -> Stage:
        """Models with exits beside their baselines."""
        cells = [self._compared(name) for name, cell in self.cells.items() if classifies(self.study, cell.dataset)]
        chosen = {"cells": cells, **settings.compare_exits_settings(self.study)}
        return Stage("compare_exits", f"{self.results}/exits/exits.json", chosen)

    def _compared(self, name: str) -> dict[str, Any]:
        """What is known of a cell before it has run, for comparing it with others."""
        cell, found = self.cells[name], {p: self.predict(name, p).settings["inference"] for p in self.points(name)}
        model = self.study["models"][cell.model]
        known = {"cell": name, "encoder": settings.encoder(model), "variant_of": model.get(VARIANT_OF)}
        return {**vars(cell), **known, "points": found}

    def compare_exits_inputs(self) -> list[str]:
        """Every artefact that the comparison reads."""
        cells = [name for name, cell in self.cells.items() if classifies(self.study, cell.dataset)]
        points = [f"{self.results}/{name}/predict/{point}" for name in cells for point in self.points(name)]
        files = ("predictions.jsonl", "inference.json", "energy.json", "scores.json", "examples.csv")
        found = [f"{folder}/{file}" for folder in points for file in files]
        found += [self.finetune(name).artefact for name in cells]
        return found + [path for name in self.with_exits for path in self._of_exits(name)]

    def _of_exits(self, name: str) -> list[str]:
        """What recording and calibrating leave of a cell."""
        folder = f"{self.results}/{name}"
        recorded = [f"{folder}/exits/{file}" for file in ("logits.jsonl", "exits.json")]
        return [*recorded, f"{folder}/calibrate/calibration.json"]

    def plot_exits(self) -> Stage:
        """The figures of models with exits."""
        shown = ("cell", "dataset", "model", "seq_len", "budget", "seed", "encoder")
        cells = [{key: cell[key] for key in shown} for cell in self.compare_exits().settings["cells"]]
        chosen = {"titles": self.titles(), "cells": cells, "names": list(displays.exit_figures(self.study))}
        return Stage("plot_exits", f"{self.results}/exits/exits_figures.json", chosen)

    def calibrations(self) -> dict[str, str]:
        """Where the temperatures of each cell with several exits are."""
        return {name: self.calibrate(name).artefact for name in self.with_exits}

    @_remembered
    def summarize_energy(self, name: str, part: str) -> Stage:
        """The energy of a cell's training or of one of its inference points."""
        chosen = {"watts_per_core": self.machine.get("watts_per_core")}
        return Stage("summarize_energy", f"{self.results}/{name}/{part}/energy.json", chosen)

    @_remembered
    def score(self, name: str, inference: str) -> Stage:
        """The scores of one inference point."""
        chosen = settings.score_settings(self.study, self.cell(name), inference)
        return Stage("score", f"{self.results}/{name}/predict/{inference}/scores.json", chosen)

    def summarize(self) -> Stage:
        """The study's table: one row per cell and inference point."""
        chosen = {"rows": self.rows(), "prices": costs.figures(self.machine)}
        return Stage("summarize", f"{self.results}/summary.json", chosen)

    @_remembered
    def tabulate(self) -> Stage:
        """The study's tables as people read them."""
        chosen = {
            "titles": self.titles(),
            "datasets": self.dataset_facts(),
            "devices": {name: devices(budget) for name, budget in self.study["budgets"].items()},
            "groups": hyperparameters.groups(self.cells, self._in_force),
            "published": self.study.get("published", {}),
        }
        return Stage("tabulate", f"{self.results}/tables/tables.json", chosen)

    def plot(self) -> Stage:
        """The study's figures."""
        shown = {name: self.study.get(name, default) for name, default in (("published", {}), ("figures", []))}
        chosen = {"titles": self.titles(), **shown}
        return Stage("plot", f"{self.results}/figures/figures.json", chosen)

    def plot_power(self) -> Stage:
        """Every cell's power over time."""
        titles = self.titles()
        headings = {name: _heading(cell, titles) for name, cell in self.cells.items()}
        chosen = {"headings": headings, "parts": {name: self.parts(name) for name in self.cells}}
        return Stage("plot_power", f"{self.power_folder}/power.json", chosen)

    def judge_claims(self) -> Stage:
        """The study's claims, each with its verdict."""
        chosen = {"claims": self.claims, "cells": self.claim_cells() if self.claims else []}
        return Stage("judge_claims", f"{self.results}/claims.json", chosen)

    def claim_cells(self) -> list[dict[str, Any]]:
        """Every row that the grid means: its axes, its cell, and for one that `exclude` takes away the reason."""
        there: dict[str, tuple[Cell, str | None]] = {name: (cell, None) for name, cell in self.cells.items()}
        return [
            {**vars(cell), "model": self.claimed(cell), "cell": name, "inference": point, "left_out": reason}
            for name, (cell, reason) in {**there, **left_out(self.study)}.items()
            for point in self._points[name]
        ]

    def claimed(self, cell: Cell) -> str:
        """What claims call a cell's model: of those that a search made, the entry that it made them from."""
        return str(self.study["models"][cell.model].get(VARIANT_OF, cell.model))

    def claim_files(self) -> list[str]:
        """What becomes of the study's claims; nothing if it has none."""
        return [f"{self.results}/claims.{kind}" for kind in CLAIM_KINDS] if self.claims else []

    def partial_settings(self) -> dict[str, Any]:
        """All that summary, tables and figures of a part of the study need."""
        parts = (self.summarize(), self.tabulate(), self.plot(), self.plot_power())
        judged = {"judge_claims": self.judge_claims().settings}
        judged |= {"compare_exits": self.compare_exits().settings} if self.with_exits else {}
        return {**{name: value for stage in parts for name, value in stage.settings.items()}, **judged}

    def rows(self) -> list[dict[str, Any]]:
        """What is known of every summary row before anything has run."""
        rows: list[dict[str, Any]] = []
        for name, cell in self.cells.items():
            model = self.study["models"][cell.model]
            known = {**vars(cell), "cell": name, "initialisation": model["initialisation"]}
            known |= {key: model[key] for key in (VARIANT_OF,) if key in model}
            rows += [{**known, "inference": point, **self._rule(name, point)} for point in self.points(name)]
        return rows

    def _rule(self, name: str, point: str) -> dict[str, Any]:
        """By which rule examples leave at an inference point; nothing for a text."""
        chosen = self.predict(name, point).settings
        if chosen.get("task") != CLASSIFICATION:
            return {}
        ((rule, value),) = (chosen["inference"]["exit"] or {"last": None}).items()
        shown = {"exit_rule": rule, "exit_value": None if value is True else value}
        return {**shown, "inference_batch_size": chosen["inference"]["batch_size"]}

    def plan_settings(self) -> dict[str, Any]:
        """What is needed to know these jobs elsewhere."""
        return {"study_id": self.study_id, "study": self.study, "machine": self.machine}

    def compare_settings(self) -> dict[str, Any]:
        """The two studies to set side by side, how things are called, and how intervals are found."""
        scoring = {**settings.SCORING_DEFAULTS, **self.study.get("scoring", {})}
        names = {"study": self.study_id, "against": self.machine.get("against")}
        return {**names, "titles": self.titles(), "scoring": {k: scoring[k] for k in settings.SCORING_DEFAULTS}}

    def dataset_facts(self) -> list[dict[str, str]]:
        """For every dataset and tokenizer in use: their names, and the files with their statistics."""
        facts = {}
        for name in self._by_data():
            cell, chosen = self.cells[name], self.inputs(name)
            facts[chosen["tokenized"]] = {
                "dataset": cell.dataset,
                "metric": self.study["datasets"][cell.dataset]["metric"],
                "tokenizer": self.study["models"][cell.model]["tokenizer"],
                "records": chosen["dataset"],
                "tokens": chosen["tokenized"],
            }
        return list(facts.values())

    def _in_force(self, name: str) -> hyperparameters.InForce:
        points = {point: self.predict(name, point).settings for point in self.points(name)}
        scoring = {point: self.score(name, point).settings for point in self.points(name)}
        calibration = self.calibrate(name).settings if self._several_exits(self.cell(name).model) else None
        return hyperparameters.in_force(self.finetune(name).settings, points, scoring, calibration)

    def titles(self) -> dict[str, str]:
        """How datasets, models and budgets are called in figures; one name for two things is the model's."""
        entries = {**self.study["budgets"], **self.study["datasets"], **self.study["models"]}
        return {name: entry.get("title", name) for name, entry in entries.items()}

    def parts(self, name: str | None = None) -> list[str]:
        """The parts of a cell that are metered; without a name, of any."""
        return [FINETUNE, *(f"predict/{point}" for point in (self.points(name) if name else self.inferences))]

    @_remembered
    def inputs(self, name: str) -> dict[str, str]:
        """Where a cell's tokens, tokenizer and (if pretrained) checkpoint are."""
        chosen = settings.finetune_settings(self.study, self.cell(name))
        paths = {
            "tokens": f"resources/tokenized/{chosen['tokens']}/tokens",
            "tokenized": f"resources/tokenized/{chosen['tokens']}/tokenized.json",
            "tokenizer": f"resources/tokenizers/{chosen['tokens']}/tokenizer.json",
            "dataset": f"resources/datasets/{chosen['tokens'].split('/')[0]}/dataset.json",
        }
        if chosen["checkpoint"]:
            paths["checkpoint"] = f"resources/models/{chosen['checkpoint']}/model.json"
        return paths

    @staticmethod
    def pattern(names: Iterable[str]) -> str:
        """A wildcard constraint: one of these names, or nothing at all if there are none."""
        return "|".join(re.escape(name) for name in sorted(set(names))) or "(?!)"

    def cell_pattern(self) -> str:
        """A constraint for cell ids by their parts; an alternation of thousands of ids would be slow."""
        cells = self.cells.values()
        names = (
            {cell.dataset for cell in cells},
            {cell.model for cell in cells},
            {str(cell.seq_len) for cell in cells},
            {cell.budget for cell in cells},
            {cell.protocol for cell in cells},
            {f"seed{cell.seed}" for cell in cells},
        )
        return "/".join(f"(?:{self.pattern(part)})" for part in names)

    @cached_property
    def uses_gpus(self) -> bool:
        """Whether any cell leases devices."""
        return any(self.gpus(name) for name in self._one_of_all_seeds())

    def gpus(self, name: str) -> int:
        """Devices that a cell's jobs lease."""
        return int(self.study["budgets"][self.cell(name).budget]["gpus"])

    @cached_property
    def runtimes(self) -> RuntimeModel:
        """How long trainings and predictions will take, by the summary of earlier runs where there is one."""
        configs = {model: self._checkpoint_config(model) for model in {cell.model for cell in self.cells.values()}}
        points = {name: self.points(name) for name in self.cells}
        return RuntimeModel.of(self.study, self.cells, configs, self.results, points)

    def priority(self, name: str, inference: str | None = None) -> int:
        """How urgent a cell's training is, or one of its inference points; see `longwatt.priorities`."""
        parts = self.parts(name) if inference is None else [f"predict/{inference}"]
        seconds = sum(self.runtimes.predict(name, part).seconds for part in parts)
        return priorities.of_cell(self.gpus(name), seconds, trained=inference is not None)

    def kept_of_cells(self) -> list[str]:
        """Every artefact of every cell that a finished study keeps."""
        artefacts = [stage.artefact for stage in self.cell_stages()]
        others = [
            f"{self.results}/{name}/predict/{point}/{file}"
            for name in self.cells
            for point in self.points(name)
            for file in ("predictions.jsonl", "examples.csv", "energy.jsonl.gz")
        ]
        others += [f"{self.results}/{name}/{part}/power.csv" for name in self.cells for part in self.parts(name)]
        left = ("exits/logits.jsonl", "exits/energy.jsonl.gz", "calibrate/model")
        others += [f"{self.results}/{name}/{file}" for name in self.with_exits for file in left]
        models = [f"{self.results}/{name}/finetune/{f}" for name in self.cells for f in TRAINED]
        return [*artefacts, *others, *models]

    def summary_inputs(self) -> list[str]:
        """What the summary is made from."""
        compared = [self.compare_exits().artefact] if self.with_exits else []
        return [*(path for path in self.kept_of_cells() if path.endswith(".json")), *compared]

    def kept(self) -> list[str]:
        """Every artefact that a finished study keeps; `rule all` asks for each by name.

        A file left by an earlier run would otherwise hide that the stage before it failed.
        """
        cells = self.kept_of_cells()
        tail = [f"{self.results}/summary.csv", f"{self.results}/summary.json"]
        tables = [
            f"{self.results}/tables/{name}.{kind}"
            for name in displays.tables(self.study)
            for kind in displays.TABLE_KINDS
        ]
        ends = [self.tabulate().artefact, self.plot().artefact, self.plot_power().artefact]
        pages = [self.power_folder, *self.claim_files(), *self.exits_files()]
        return [*cells, *tail, *tables, *self.figures(), *pages, *ends]

    def exits_files(self) -> list[str]:
        """What becomes of a study's models with exits; nothing if it has none."""
        if not self.with_exits:
            return []
        names = [f"{name}.{kind}" for name in displays.exit_figures(self.study) for kind in ("svg", "png")]
        folder = f"{self.results}/exits"
        return [
            *(f"{folder}/{name}" for name in ("exits.json", "curve.csv", "difficulty.csv", "exits_figures.json")),
            *(f"{folder}/figures/{name}" for name in names),
        ]

    def energies(self) -> list[str]:
        """The energy of every metered part of every cell: its numbers and its curve."""
        folders = [f"{self.results}/{name}/{part}" for name in self.cells for part in self.parts(name)]
        return [f"{folder}/{file}" for folder in folders for file in ("energy.json", "power.csv")]

    @property
    def power_folder(self) -> str:
        """The folder of every cell's power over time.

        One output, not one for each cell: Snakemake records all inputs of a job with each of its outputs, and thousands
        of both would take it hours and gigabytes.
        """
        return f"{self.results}/power"

    def figures(self) -> list[str]:
        """Paths of the study's figures."""
        kinds = ("svg", "png")
        return [f"{self.results}/figures/{name}.{kind}" for name in displays.figures(self.study) for kind in kinds]

    def all(self) -> Iterator[Stage]:
        """Every job of the study, in the order of the flow."""
        yield from (self.download_dataset(key) for key in self.datasets)
        yield from (self.download_model(key) for key in self.models)
        for dataset, tokenizer in self.pairs():
            yield self.make_tokenizer(dataset, tokenizer)
            yield self.tokenize_dataset(dataset, tokenizer)
        yield from (self.probe_batch_size(key) for key in self.probes)
        yield from self.cell_stages()
        if self.with_exits:
            yield self.compare_exits()
            yield self.plot_exits()
        yield self.summarize()
        yield self.tabulate()
        yield self.plot()
        yield self.plot_power()
        if self.claims:
            yield self.judge_claims()

    def pairs(self) -> list[tuple[str, str]]:
        """Every dataset and tokenizer that some cell uses together, by key."""
        keys = {settings.tokens_key(self.study, self.cells[name]) for name in self._by_data()}
        return [(dataset, tokenizer) for dataset, tokenizer in (key.split("/") for key in sorted(keys))]

    def _by_data(self) -> Iterable[str]:
        """One cell for every dataset and model: what is made before training depends on nothing else."""
        return {(cell.dataset, cell.model): name for name, cell in self.cells.items()}.values()

    def cell_stages(self) -> Iterator[Stage]:
        """Every job of every cell."""
        for name in self.cells:
            yield from self._cell_stages(name)

    def _cell_stages(self, name: str) -> Iterator[Stage]:
        yield self.finetune(name)
        if self._several_exits(self.cells[name].model):
            yield self.record_exits(name)
            yield self.calibrate(name)
        for point in self.points(name):
            yield self.predict(name, point)
            yield self.score(name, point)
        yield from (self.summarize_energy(name, part) for part in self.parts(name))


def _heading(cell: Cell, titles: Mapping[str, str]) -> str:
    """A cell as people call it."""
    names = f"{titles[cell.dataset]}, {titles[cell.model]}, {cell.seq_len} tokens"
    return f"{names} ({cell.budget}, {cell.protocol}, seed {cell.seed})"


def check_budgets(stages: Stages, limit: int) -> None:
    """Refuse cells that want more GPUs than may be used.

    Snakemake itself would silently lower a job's need to the limit, and so change its batch size.

    Raises:
        StudyError: names the cell, its need and the limit.
    """
    name = max(stages.cells, key=stages.gpus)  # what it needs is enough for all
    need = stages.gpus(name)
    if need > limit:
        raise StudyError(
            f"cell {name} needs {need} GPU(s) but the limit is {limit}. The limit is the number of "
            f"devices found on this machine unless you give one: --resources gpu={need} if they are "
            "there, or choose a smaller budget, or a study for this machine"
        )


def machine_environment(machine: Mapping[str, Any]) -> dict[str, str]:
    """What config.yaml says of this machine and jobs must know, though no result depends on it."""
    mirror = machine.get("mirror")
    return {hub.MIRROR: str(mirror)} if mirror else {}


def check_sources(stages: Stages) -> None:
    """Refuse datasets, checkpoints and tokenizers that are not made yet and cannot be read here.

    Raises:
        StudyError: names the entry and what is missing.
    """
    for entry, artefact, problem in _sources(stages):
        if problem and not Path(artefact).exists():
            raise StudyError(f"studies/{stages.study_id}.yaml: {entry}: {problem}")


def _sources(stages: Stages) -> Iterator[tuple[str, str, str | None]]:
    """(entry, what is made from it, what is missing for that) of everything that comes from outside."""
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        problem = datasets.missing(chosen["source"], chosen["options"])
        yield f"datasets.{name}", stages.download_dataset(key).artefact, problem
    for key, name in stages.models.items():
        if stages.repository(key) is None:
            problem = missing_checkpoint(stages.study["models"][name], missing_weights)
            yield f"models.{name}", stages.download_model(key).artefact, problem
    for dataset, tokenizer in stages.pairs():
        name = stages.tokenizers[tokenizer]
        problem = missing_checkpoint(stages.study["tokenizers"][name], missing_tokenizer)
        yield f"tokenizers.{name}", stages.make_tokenizer(dataset, tokenizer).artefact, problem


def check_against(stages: Stages, asked: Mapping[str, Any], studies: Path) -> None:
    """Refuse a comparison that names no other study, or one that nobody knows; and `against` without a comparison.

    Args:
        stages: the study's.
        asked: Snakemake's options.
        studies: the folder of study files; a study whose file is gone can still have results.

    Raises:
        StudyError: names the known study that is most like the one that was named.
    """
    other, compares = stages.machine.get("against"), "compare" in (asked.get("targets") or ())
    if compares and other is None:
        raise StudyError("compare needs a second study: --config study=A against=B")
    if other is None:
        return
    if not compares:
        raise StudyError("`against` is for the target compare: snakemake compare --config study=A against=B")
    if other == stages.study_id:
        raise StudyError(f"against: {other} is the study itself; name another one")
    known = {path.name for path in Path("results").glob("*") if path.is_dir()}
    known |= {path.stem for path in studies.glob("*.yaml")}
    check_name("study", other, known - {stages.study_id}, "against")


def fetches(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake may be about to fetch something from the hub."""
    return runs_jobs(asked) and not only_tells(asked)


def check_hub(stages: Stages, asked: Mapping[str, Any]) -> None:
    """Ask the hub for all that a study still needs of it, before anything is downloaded.

    Models' configurations are fetched at once, since lengths are checked against them and run times follow from them.

    Args:
        stages: of the study.
        asked: Snakemake's options; a dry run does without an answer, and fetches nothing.

    Raises:
        StudyError: names the entry, the repository and what to do, and what else is out of reach.
    """
    dry = bool(asked.get("dryrun"))
    needed = [found for found in _repositories(stages) if not Path(found[1]).exists()]
    for number, (entry, _, repository, choose) in enumerate(needed):
        try:
            hub.check(repository, choose)
            if choose is choose_model and not dry:
                hub.fetch(repository, choose_config)
        except hub.HubUnreachable as error:
            others = sorted({f"{other} ({theirs.name})" for other, _, theirs, _ in needed[number + 1 :]})
            also = f". Not looked for any more: {', '.join(others)}" if others else ""
            if dry:
                print(f"Not checked, since the hub does not answer: {entry} ({repository.name}){also}", file=sys.stderr)
                return
            if not error.answered:  # a busy hub will have answered by the time that the job runs, which is patient
                raise StudyError(f"studies/{stages.study_id}.yaml: {entry}: {error}{also}") from None
        except hub.HubError as error:
            raise StudyError(f"studies/{stages.study_id}.yaml: {entry}: {error}") from None
    stages.check_cells()


def _repositories(stages: Stages) -> Iterator[tuple[str, str, hub.Repository, hub.Choose]]:
    """(entry, what is made from it, where it comes from, the choice of its files) of everything from the hub."""
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        found = datasets.repository(chosen["source"], chosen["options"])
        if found and not datasets.at_hand(chosen["source"], chosen["options"]):
            yield f"datasets.{name}", stages.download_dataset(key).artefact, *found
    for key, name in stages.models.items():
        repository = stages.repository(key)
        if repository:
            yield f"models.{name}", stages.download_model(key).artefact, repository, choose_model
    for dataset, key in stages.pairs():
        name = stages.tokenizers[key]
        repository = repository_of(stages.study["tokenizers"][name])
        if repository:
            yield f"tokenizers.{name}", stages.make_tokenizer(dataset, key).artefact, repository, choose_tokenizer


def check_writable(stages: Stages) -> None:
    """Refuse to run where results could not be written.

    Raises:
        StudyError: names the folder.
    """
    for folder in ("resources", "logs", stages.results):
        there = Path(folder)
        while not there.exists():
            there = there.parent
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise StudyError(
                f"{there.resolve()} cannot be written to, but {folder}/ must go there; make it writable, or run from "
                "another folder with --directory"
            )


def reports_only(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for a report of what is there, without running anything.

    Args:
        asked: Snakemake's options by name, those of its profiles included; here and below.
    """
    return bool(asked.get("report")) and not asked.get("report_after_run")


def runs_jobs(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for jobs (if only to list them in a dry run), not for what it knows."""
    return not (reports_only(asked) or any(asked.get(name) for name in NO_JOBS))


def only_looks(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for something that writes no results."""
    return not runs_jobs(asked) or bool(asked.get("dryrun"))


def leases_gpus(asked: Mapping[str, Any]) -> bool:
    """Whether jobs with GPUs may run: in all that runs jobs but only tells (`only_tells`)."""
    return runs_jobs(asked) and not only_tells(asked)


def only_tells(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked only to tell what there is or would be: for that no data need be here."""
    return bool(asked.get("targets")) and set(asked["targets"]) <= TELLING


def on_cluster(asked: Mapping[str, Any]) -> bool:
    """Whether jobs are handed to another scheduler, which knows what GPUs there are."""
    return asked.get("executor") not in (None, "local", "dryrun", "touch")


def job_environment(asked: Mapping[str, Any]) -> dict[str, str]:
    """What jobs must know of what Snakemake was asked: whether to train or predict anew.

    A job that is made again for any other reason (Snakemake died before it recorded it, its outputs were deleted)
    takes what its work folder still holds.
    """
    everything = asked.get("forceall") or asked.get("force")
    named = asked.get("forcerun") or ()
    chosen = [rule for rule in LASTING if everything or any(rule in Path(name).parts for name in named)]
    return {ANEW: f"{os.getpid()}-{time.time_ns()}:{' '.join(chosen)}"} if chosen else {}


def check_report(stages: Stages) -> None:
    """Refuse a report whose summary is older than any of its cells, or lacks one.

    Raises:
        StaleReport: names the artefacts.
    """
    # pandas is needed only here, and not for an ordinary run.
    from longwatt.summary import StaleSummary, check_fresh

    try:
        claims = stages.judge_claims().settings if stages.claims else None
        check_fresh(Path(stages.results), stages.rows(), claims)
    except StaleSummary as error:
        raise StaleReport(str(error)) from None


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


def _check_references(study: Mapping[str, Any], source: str) -> None:
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
