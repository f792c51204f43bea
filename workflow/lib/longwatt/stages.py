"""Every job of a study as data: its artefact, its narrow settings, the code behind it by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from longwatt import costs, datasets, displays, hub, models, priorities, published, settings
from longwatt.cell_settings import CellSettings
from longwatt.cells import Cell, classifies, devices, expand, points
from longwatt.claim_settings import check_claims, claims_of, left_out, scored_rows
from longwatt.escaping import in_one_line
from longwatt.expansion import VARIANT_OF
from longwatt.generation_checks import check_lengths
from longwatt.hyperparameters import rule_columns
from longwatt.models.errors import ModelError
from longwatt.pretrained import (
    CONFIG,
    checkpoint_files,
    local_folder,
    repository_of,
)
from longwatt.provenance import Stage, read_object
from longwatt.runtime_model import FINETUNE, RuntimeModel
from longwatt.study import StudyError, check_name
from longwatt.study_checks import check_references
from longwatt.tasks import CLASSIFICATION

CLAIM_KINDS = ("html", "md", "json")

DEMO = "demo"  # the embedded study
POWER = "Power over time"  # category of the report with the page of all cells'
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
        self._settings = CellSettings(study)
        check_references(study, f"studies/{study_id}.yaml")
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
        if several and split == "train":
            raise StudyError(
                f"studies/{self.study_id}.yaml: calibration.split is train, on which {name} is trained: a model is too "
                "sure of what it has seen; choose another split (the source `labelled` makes one by `held_out`)"
            )
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
            self._check_generation(name, cell, chosen, points)
        given = chosen["model"]["config"] or {}
        known, exits = {**config, **given}, self.study["models"][cell.model].get("exits")
        try:
            models.load_family(chosen["model"]["family"]).check(known, given, cell.seq_len, max(targets), exits)
        except ModelError as error:
            raise StudyError(f"studies/{self.study_id}.yaml: cell {name}: {error}") from None

    def _check_generation(
        self, name: str, cell: Cell, chosen: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Refuse a cell whose targets or answers have no room for a word, or contradict each other."""
        found = {"generation": chosen["generation"]}
        found |= {f"inference.{key}.generation": point["generation"] for key, point in points.items()}
        tokenizer = self.study["tokenizers"][self.study["models"][cell.model]["tokenizer"]]
        problem = check_lengths(chosen["training"]["max_target_tokens"], found, tokenizer)
        if problem:
            raise StudyError(f"studies/{self.study_id}.yaml: cell {name}: {problem}")

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
        self.cell(name)
        return self._points[name]

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
        chosen = self._settings.finetune(self.cell(name))
        module = f"longwatt.models.{chosen['model']['family']}"
        return Stage("finetune", f"{self.results}/{name}/finetune/training.json", chosen, (module,))

    @_remembered
    def execution(self, name: str) -> dict[str, Any]:
        """How one cell's training is carried out; see `longwatt.execution`."""
        return settings.execution_settings(self.study, self.cell(name))

    @_remembered
    def predict(self, name: str, inference: str) -> Stage:
        """One inference point of a cell."""
        chosen = self._settings.predict(self.cell(name), inference)
        path = f"{self.results}/{name}/predict/{inference}/inference.json"
        return Stage("predict", path, chosen, (f"longwatt.models.{chosen['family']}",))

    def predict_inputs(self, name: str) -> dict[str, str]:
        """What an inference needs: data, and the trained model, calibrated where it has several exits."""
        folder = f"{self.results}/{name}"
        found = {**self.inputs(name), "training": f"{folder}/finetune/training.json"}
        if not self._several_exits(self.cell(name).model):
            return {**found, "model": f"{folder}/finetune/model"}
        return {**found, "model": f"{folder}/calibrate/model", "temperatures": self.calibrate(name).artefact}

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
        return Stage("calibrate", f"{self.results}/{name}/calibrate/temperatures.json", chosen)

    @_remembered
    def judge_calibration(self, name: str) -> Stage:
        """What the temperatures of a cell did to its confidences."""
        chosen = settings.resampling_settings(self.study)
        return Stage("judge_calibration", f"{self.results}/{name}/calibrate/calibration.json", chosen)

    @_remembered
    def compare_exits(self) -> Stage:
        """Models with exits beside their baselines."""
        cells = [self._compared(name) for name in self._classifying]
        chosen = {"cells": cells, **settings.compare_exits_settings(self.study)}
        return Stage("compare_exits", f"{self.results}/exits/exits.json", chosen)

    @cached_property
    def _classifying(self) -> list[str]:
        """The cells that tell labels apart, by name."""
        return [name for name, cell in self.cells.items() if classifies(self.study, cell.dataset)]

    def _compared(self, name: str) -> dict[str, Any]:
        """What is known of a cell before it has run, for comparing it with others."""
        cell, found = self.cells[name], {p: self.predict(name, p).settings["inference"] for p in self.points(name)}
        model = self.study["models"][cell.model]
        known = {"cell": name, "encoder": settings.encoder(model), "variant_of": model.get(VARIANT_OF)}
        return {**vars(cell), **known, "model": self.claimed(cell), "points": found}

    def compare_exits_inputs(self) -> list[str]:
        """Every artefact that the comparison reads."""
        cells = self._classifying
        points = [f"{self.results}/{name}/predict/{point}" for name in cells for point in self.points(name)]
        files = ("predictions.jsonl", "inference.json", "energy.json", "scores.json", "examples.csv")
        found = [f"{folder}/{file}" for folder in points for file in files]
        found += [self.finetune(name).artefact for name in cells]
        return found + [path for name in self.with_exits for path in self._of_exits(name)]

    def _of_exits(self, name: str) -> list[str]:
        """What recording and calibrating leave of a cell."""
        folder = f"{self.results}/{name}"
        recorded = [f"{folder}/exits/{file}" for file in ("logits.jsonl", "exits.json")]
        return [*recorded, self.judge_calibration(name).artefact]

    def plot_exits(self) -> Stage:
        """The figures of models with exits."""
        shown = ("cell", "dataset", "model", "seq_len", "budget", "seed", "encoder")
        cells = [{key: cell[key] for key in shown} for cell in self.compare_exits().settings["cells"]]
        chosen = {"titles": self.titles(), "cells": cells, "names": list(displays.exit_figures(self.study))}
        return Stage("plot_exits", f"{self.results}/exits/exits_figures.json", chosen)

    def calibrations(self) -> dict[str, str]:
        """Where it says what calibration did to each cell with several exits."""
        return {name: self.judge_calibration(name).artefact for name in self.with_exits}

    @_remembered
    def summarize_energy(self, name: str, part: str) -> Stage:
        """The energy of a cell's training or of one of its inference points."""
        chosen = {"watts_per_core": self.machine.get("watts_per_core")}
        return Stage("summarize_energy", f"{self.results}/{name}/{part}/energy.json", chosen)

    @_remembered
    def score(self, name: str, inference: str) -> Stage:
        """The scores of one inference point."""
        chosen = self._settings.score(self.cell(name), inference)
        return Stage("score", f"{self.results}/{name}/predict/{inference}/scores.json", chosen)

    def summarize(self) -> Stage:
        """The study's table: one row per cell and inference point."""
        chosen = {"rows": self.rows(), "prices": costs.figures(self.machine)}
        return Stage("summarize", f"{self.results}/summary.json", chosen)

    @_remembered
    def tabulate(self) -> Stage:
        """The study's tables as people read them; the settings in them are those of the results."""
        chosen = {
            "titles": self.titles(),
            "datasets": self.dataset_facts(),
            "devices": {name: devices(budget) for name, budget in self.study["budgets"].items()},
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
        return Stage("plot_power", self.power_report, chosen)

    def judge_claims(self) -> Stage:
        """The study's claims, each with its verdict."""
        scoring = settings.resampling_settings(self.study)
        cells = [{**cell, "split": self._split(cell)} for cell in self.claim_cells()] if self.claims else []
        chosen = {"claims": self.claims, "cells": cells, "scoring": scoring}
        return Stage("judge_claims", f"{self.results}/claims.json", chosen)

    def claim_cells(self) -> list[dict[str, Any]]:
        """Every row that the grid means: its axes, its cell, and for one that `exclude` takes away the reason."""
        there: dict[str, tuple[Cell, str | None]] = {name: (cell, None) for name, cell in self.cells.items()}
        return [
            {**vars(cell), "model": self.claimed(cell), "cell": name, "inference": point, "left_out": reason}
            for name, (cell, reason) in {**there, **left_out(self.study)}.items()
            for point in self._points[name]
        ]

    def _split(self, cell: Mapping[str, Any]) -> str | None:
        """Name the split of a row of `claim_cells`; None where `exclude` takes it away."""
        if cell["left_out"] is not None:
            return None
        return str(self.predict(cell["cell"], cell["inference"]).settings["inference"]["split"])

    @cached_property
    def claim_examples(self) -> list[str]:
        """List the files with every example's scores that claims are judged by."""
        rows = scored_rows(self.claims, self.claim_cells())
        return [f"{self.results}/{cell}/predict/{point}/examples.csv" for cell, point in rows]

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
        return rule_columns(chosen["inference"]) if chosen.get("task") == CLASSIFICATION else {}

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
        compared = {**settings.COMPARISON_DEFAULTS, **self.study.get("scoring", {})}
        for name in self._by_data():
            cell, chosen = self.cells[name], self.inputs(name)
            facts[chosen["tokenized"]] = {
                "dataset": cell.dataset,
                "metric": self.study["datasets"][cell.dataset]["metric"],
                "text": compared["text"],
                "tokenizer": self.study["models"][cell.model]["tokenizer"],
                "records": chosen["dataset"],
                "tokens": chosen["tokenized"],
            }
        return list(facts.values())

    def titles(self) -> dict[str, str]:
        """How datasets, models and budgets are called in figures; one name for two things is the model's."""
        entries = {**self.study["budgets"], **self.study["datasets"], **self.study["models"]}
        of_searches = {m[VARIANT_OF]: m["search_title"] for m in self.study["models"].values() if VARIANT_OF in m}
        titles = {**{name: entry.get("title", name) for name, entry in entries.items()}, **of_searches}
        return {name: in_one_line(title) or name for name, title in titles.items()}

    def parts(self, name: str | None = None) -> list[str]:
        """The parts of a cell that are metered; without a name, of any."""
        return [FINETUNE, *(f"predict/{point}" for point in (self.points(name) if name else self.inferences))]

    @_remembered
    def inputs(self, name: str) -> dict[str, str]:
        """Where a cell's tokens, tokenizer and (if pretrained) checkpoint are."""
        chosen = self.finetune(name).settings
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
        pages = [self.power_page(), *self.claim_files(), *self.exits_files()]
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

    def power_page(self) -> str:
        """The page of every cell's power over time.

        One output, not one for each cell: Snakemake records all inputs of a job with each of its outputs, and thousands
        of both would take it hours and gigabytes.
        """
        return f"{self.results}/power/power.html"

    @property
    def power_report(self) -> str:
        """The artefact of `plot_power`; the rule asks for its path alone."""
        return f"{self.results}/power/power.json"

    def figures(self) -> list[str]:
        """Paths of the study's figures."""
        kinds = ("svg", "png")
        return [f"{self.results}/figures/{name}.{kind}" for name in displays.figures(self.study) for kind in kinds]

    def all(self) -> Iterator[Stage]:
        """Every job of the study, in the order of the flow."""
        yield from self.before_summary()
        if self.with_exits:
            yield self.compare_exits()
            yield self.plot_exits()
        yield self.summarize()
        yield self.tabulate()
        yield self.plot()
        yield self.plot_power()
        if self.claims:
            yield self.judge_claims()

    def before_summary(self) -> Iterator[Stage]:
        """Yield the jobs of data and of single cells, in the order of the flow."""
        yield from (self.download_dataset(key) for key in self.datasets)
        yield from (self.download_model(key) for key in self.models)
        for dataset, tokenizer in self.pairs():
            yield self.make_tokenizer(dataset, tokenizer)
            yield self.tokenize_dataset(dataset, tokenizer)
        yield from (self.probe_batch_size(key) for key in self.probes)
        yield from self.cell_stages()

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
            yield self.judge_calibration(name)
        for point in self.points(name):
            yield self.predict(name, point)
            yield self.score(name, point)
        yield from (self.summarize_energy(name, part) for part in self.parts(name))


def _heading(cell: Cell, titles: Mapping[str, str]) -> str:
    """A cell as people call it."""
    names = f"{titles[cell.dataset]}, {titles[cell.model]}, {cell.seq_len} tokens"
    return f"{names} ({cell.budget}, {cell.protocol}, seed {cell.seed})"


def machine_environment(machine: Mapping[str, Any]) -> dict[str, str]:
    """What config.yaml says of this machine and jobs must know, though no result depends on it."""
    mirror = machine.get("mirror")
    return {hub.MIRROR: str(mirror)} if mirror else {}
