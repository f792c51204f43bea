"""List a study's jobs, each with its artefact, its settings and the code behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, wraps
from typing import Any, TypeVar, TypeVarTuple

from longwatt.energy import costs, rated
from longwatt.layout.escaping import Undisclosed
from longwatt.provenance.stamps import Stage
from longwatt.study import cascade_cells, cascades, settings
from longwatt.study import cells as grid
from longwatt.study.cell_settings import CellSettings
from longwatt.study.contents import StudyContents
from longwatt.study.model_settings import initial_weights
from longwatt.study.reported import report_items, report_settings

_Names = TypeVarTuple("_Names")
_Answer = TypeVar("_Answer")


def _remembered(
    method: Callable[[Stages, *_Names], _Answer],
) -> Callable[[Stages, *_Names], _Answer]:
    """Let a method of Stages answer each question once: Snakemake asks several times a job.

    Callers share the answers and must not change them. `functools.cache` would keep every study
    alive and lose the types of the arguments.
    """

    @wraps(method)
    def answer(self: Stages, /, *names: *_Names) -> _Answer:
        question = (method, *names)
        if question not in self._answers:
            self._answers[question] = method(self, *names)
        found: _Answer = self._answers[question]
        return found

    return answer


def _stage(rule: str, artefact: str, chosen: Mapping[str, Any], *modules: str) -> Stage:
    """Describe a job whose settings print as their digest in Snakemake's report."""
    return Stage(rule, artefact, Undisclosed(chosen), modules)


class Stages(StudyContents):
    """The jobs of one study, with a method for each rule that takes its wildcards.

    `longwatt.study.checks.checked_stages` makes one for a study that nobody has checked yet. It is
    made as `StudyContents` is.
    """

    def __init__(self, study_id: str, study: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        super().__init__(study_id, study, machine)
        self._answers: dict[tuple[object, ...], Any] = {}
        self._settings = CellSettings(study)

    # Batch sizes that are looked for, by their keys.

    @cached_property
    def probes(self) -> dict[str, str]:
        """A cell for each probe, by key."""
        return {key: name for name in self.cells if (key := self.probe(name))}

    @_remembered
    def probe(self, name: str) -> str | None:
        """Return the key of a cell's probe, None where its batch size is given."""
        return settings.probe_key(self.cell(name), self.finetune(name).settings)

    # Data: made once and shared by all studies.

    def download_dataset(self, key: str) -> Stage:
        """Describe the job that brings the records of one dataset."""
        chosen = settings.dataset_settings(self.study, self.datasets[key])
        path = f"resources/datasets/{key}/dataset.json"
        return _stage("download_dataset", path, chosen, f"longwatt.datasets.{chosen['source']}")

    def download_model(self, key: str) -> Stage:
        """Describe the job that brings the weights and configuration of one pretrained model."""
        chosen = settings.model_source_settings(self.study, self.models[key])
        return _stage("download_model", f"resources/models/{key}/model.json", chosen)

    def make_tokenizer(self, dataset: str, tokenizer: str) -> Stage:
        """Train a tokenizer on a dataset's training split, or take a checkpoint's own."""
        chosen = settings.tokenizer_settings(self.study, self.tokenizers[tokenizer])
        path = f"resources/tokenizers/{dataset}/{tokenizer}/provenance.json"
        return _stage("make_tokenizer", path, {"dataset": dataset, **chosen})

    def tokenize_dataset(self, dataset: str, tokenizer: str) -> Stage:
        """Tokenize a dataset's whole inputs."""
        path = f"resources/tokenized/{dataset}/{tokenizer}/tokenized.json"
        return _stage("tokenize_dataset", path, {"dataset": dataset, "tokenizer": tokenizer})

    @_remembered
    def inputs(self, name: str) -> dict[str, str]:
        """Return where a cell's tokens, tokenizer and (if pretrained) checkpoint are."""
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

    # Training.

    def probe_batch_size(self, key: str) -> Stage:
        """Find the largest batch of the cells that share a probe."""
        chosen = settings.probe_settings(self.finetune(self.probes[key]).settings)
        path = f"resources/batch_sizes/{key}/probe.json"
        module = f"longwatt.models.{chosen['model']['family']}"
        return _stage("probe_batch_size", path, chosen, module)

    def probe_inputs(self, key: str) -> dict[str, str]:
        """Return what the cells of a probe train on."""
        return self.inputs(self.probes[key])

    @_remembered
    def finetune(self, name: str) -> Stage:
        """Train one cell."""
        chosen = self._settings.finetune(self.cell(name))
        path = f"{self.results}/{name}/finetune/training.json"
        return _stage("finetune", path, chosen, f"longwatt.models.{chosen['model']['family']}")

    def finetune_inputs(self, name: str) -> dict[str, str]:
        """Return what a training needs: `inputs`, and the batch size where a probe finds it."""
        key = self.probe(name)
        found = {"batch_size": f"resources/batch_sizes/{key}/batch_size.json"} if key else {}
        return {**self.inputs(name), **found}

    @_remembered
    def execution(self, name: str) -> dict[str, Any]:
        """Return how one cell's training is carried out (see `longwatt.study.execution`)."""
        return settings.execution_settings(self.study, self.cell(name))

    # Inference, scores and energy.

    @_remembered
    def predict(self, name: str, inference: str) -> Stage:
        """Predict with a cell at one inference point."""
        chosen = self._settings.predict(self.cell(name), inference)
        path, families = f"{self.results}/{name}/predict/{inference}/inference.json", []
        if cascade := self.cascade(inference):
            first = self.first(name, inference)
            own = self._settings.predict(self.cell(first), inference)
            chosen = cascade_cells.with_first(chosen, own, first, cascade)
            families = [own["family"]] if own["family"] != chosen["family"] else []
        modules = (f"longwatt.models.{family}" for family in (chosen["family"], *families))
        return _stage("predict", path, chosen, *modules)

    def inference(self, name: str, point: str) -> dict[str, Any]:
        """Return how a cell predicts at an inference point."""
        return dict(self.predict(name, point).settings["inference"])

    def predict_inputs(self, name: str, point: str) -> dict[str, str]:
        """Return what an inference needs: the trained or calibrated model, or that before."""
        if initial_weights(self.inference(name, point)):
            return self.inputs(name)
        if not self.cascade(point):
            return self._trained(name)
        first = cascades.named_first(self._trained(self.first(name, point)))
        threshold = self.fit_cascade(name, point).artefact
        return {**self._trained(name), **first, "threshold": threshold}

    def _trained(self, name: str) -> dict[str, str]:
        folder = f"{self.results}/{name}"
        found = {**self.inputs(name), "training": f"{folder}/finetune/training.json"}
        if not grid.several_exits(self.study, self.cell(name).model):
            return {**found, "model": f"{folder}/finetune/model"}
        calibrated = {"temperatures": self.calibrate(name).artefact}
        return {**found, "model": f"{folder}/calibrate/model", **calibrated}

    @_remembered
    def score(self, name: str, inference: str) -> Stage:
        """Score one inference point."""
        chosen = self._settings.score(self.cell(name), inference)
        return _stage("score", f"{self.results}/{name}/predict/{inference}/scores.json", chosen)

    def score_inputs(self, name: str) -> dict[str, str]:
        """Return what a cell's predictions are judged by."""
        found = self.inputs(name)
        return {kind: found[kind] for kind in ("tokens", "tokenized", "tokenizer", "dataset")}

    @_remembered
    def summarize_energy(self, name: str, part: str) -> Stage:
        """Reduce the energy log of a cell's training or of one of its inference points."""
        chosen = {rated.WATTS_KEY: rated.watts_setting(self.machine)}
        return _stage("summarize_energy", f"{self.results}/{name}/{part}/energy.json", chosen)

    # Cascades of two cells.

    @_remembered
    def first(self, name: str, point: str) -> str:
        """Return the cell that answers first at an inference point that is a cascade."""
        where = f"{self.source}: inference.{point}.{cascades.CASCADE}"
        return cascade_cells.first_cell(
            self.cells, self.cell(name), self.cascade(point), where
        ).name

    @_remembered
    def fit_cascade(self, name: str, point: str) -> Stage:
        """Fit the threshold of a cascade on the examples of another point of both cells."""
        scoring = settings.resampling_settings(self.study)
        chosen = {**self.cascade(point), "first": self.first(name, point), "scoring": scoring}
        return _stage(
            "fit_cascade", f"{self.results}/{name}/cascade/{point}/threshold.json", chosen
        )

    def fit_cascade_inputs(self, name: str, point: str) -> dict[str, str]:
        """Return what both cells of a cascade answered where its threshold is fitted."""
        chosen = self.fit_cascade(name, point).settings
        end = f"predict/{chosen['calibrate_on']}"
        first, last = (f"{self.results}/{one}/{end}" for one in (chosen["first"], name))
        both = cascades.named_first(cascades.answer_files(first)), cascades.answer_files(last)
        return {**both[0], **both[1]}

    def cascade_settings(self) -> dict[str, Any]:
        """Return the settings to look for cascades of all cells that generate or classify."""
        return {
            "rows": self.summarize().settings["rows"],
            "points": report_settings.answering(self.study, self._there, self.inference),
            "titles": report_settings.titles(self.study),
            "scoring": settings.resampling_settings(self.study),
            "keep_score": cascade_cells.CASCADE_DEFAULTS["keep_score"],
        }

    # Models with several exits.

    @_remembered
    def record_exits(self, name: str) -> Stage:
        """Record every classifier's logits on the splits that matter."""
        splits = [self.inference(name, point)["split"] for point in self.points(name)]
        chosen = settings.record_settings(self.study, self.cell(name), splits)
        path = f"{self.results}/{name}/exits/exits.json"
        return _stage("record_exits", path, chosen, f"longwatt.models.{chosen['family']}")

    @_remembered
    def calibrate(self, name: str) -> Stage:
        """Fit the temperatures of a cell's classifiers."""
        chosen = settings.calibrate_settings(self.study, self.cell(name))
        return _stage("calibrate", f"{self.results}/{name}/calibrate/temperatures.json", chosen)

    @_remembered
    def judge_calibration(self, name: str) -> Stage:
        """Judge how the temperatures of a cell change its confidences."""
        chosen = settings.resampling_settings(self.study)
        path = f"{self.results}/{name}/calibrate/calibration.json"
        return _stage("judge_calibration", path, chosen)

    @_remembered
    def compare_exits(self) -> Stage:
        """Compare models with exits with their baselines."""
        cells = report_settings.compared(self.study, self._there, self.inference)
        chosen = {"cells": cells, **settings.compare_exits_settings(self.study)}
        return _stage("compare_exits", f"{self.results}/exits/exits.json", chosen)

    def plot_exits(self) -> Stage:
        """Draw the figures of models with exits."""
        chosen = {
            "titles": report_settings.titles(self.study),
            "cells": report_settings.drawn(self.compare_exits().settings["cells"]),
            "names": list(report_items.exit_figures(self.study)),
        }
        return _stage("plot_exits", f"{self.results}/exits/exits_figures.json", chosen)

    # Reports.

    def summarize(self) -> Stage:
        """Make the study's table: one row per cell and inference point."""
        rows = [
            {**row, "cascade_first": self.first(row["cell"], row["inference"])}
            if self.cascade(row["inference"])
            else row
            for row in report_settings.rows(self.study, self._there, self.inference)
        ]
        chosen = {
            "rows": rows,
            "prices": costs.price_figures(self.machine),
            "scoring": settings.resampling_settings(self.study),
            **settings.answer_settings(self.study),
        }
        return _stage("summarize", f"{self.results}/summary.json", chosen)

    @_remembered
    def tabulate(self) -> Stage:
        """Make the tables that people read, which show the settings of the results."""
        by_data = [(self.cells[name], self.inputs(name)) for name in self._by_data()]
        chosen = {
            "titles": report_settings.titles(self.study),
            "datasets": report_settings.dataset_facts(self.study, by_data),
            "devices": {n: grid.device_count(b) for n, b in self.study["budgets"].items()},
            "published": self.study.get("published", {}),
        }
        return _stage("tabulate", f"{self.results}/tables/tables.json", chosen)

    def plot(self) -> Stage:
        """Draw the study's figures."""
        chosen = {
            "titles": report_settings.titles(self.study),
            "published": self.study.get("published", {}),
            "figures": self.study.get("figures", []),
        }
        return _stage("plot", f"{self.results}/figures/figures.json", chosen)

    def plot_power(self) -> Stage:
        """Draw every cell's power over time."""
        chosen = {
            "headings": report_settings.headings(self.study, self.cells),
            "parts": {name: self.parts(name) for name in self.cells},
        }
        return _stage("plot_power", f"{self.results}/power/power.json", chosen)

    def judge_claims(self) -> Stage:
        """Judge the study's claims."""
        cells = report_settings.claim_cells(self.study, self.cells, self.grid_points)
        chosen = {
            "claims": self.claims,
            "cells": report_settings.with_splits(cells, self.inference) if self.claims else [],
            "scoring": settings.resampling_settings(self.study),
        }
        return _stage("judge_claims", f"{self.results}/claims.json", chosen)

    @_remembered
    def answer(self) -> Stage:
        """Say which cell to take."""
        currency = costs.price_figures(self.machine)["currency"]
        chosen = report_settings.answered(self.study_id, self.study, currency)
        return _stage("answer", f"{self.results}/answer.json", chosen)

    def plan_settings(self) -> dict[str, Any]:
        """Return all that another process needs to list these jobs, as for a plan."""
        return {"study_id": self.study_id, "study": self.study, "machine": self.machine}

    def all(self) -> Iterator[Stage]:
        """Yield every job of the study, in the order of the flow."""
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
        yield self.answer()

    def before_summary(self) -> Iterator[Stage]:
        """Yield the jobs of data and of single cells, in the order of the flow."""
        yield from (self.download_dataset(key) for key in self.datasets)
        yield from (self.download_model(key) for key in self.models)
        for dataset, tokenizer in self.pairs():
            yield self.make_tokenizer(dataset, tokenizer)
            yield self.tokenize_dataset(dataset, tokenizer)
        yield from (self.probe_batch_size(key) for key in self.probes)
        yield from self.cell_stages()

    def cell_stages(self) -> Iterator[Stage]:
        """Yield every job of every cell."""
        for name, cell in self.cells.items():
            yield self.finetune(name)
            if grid.several_exits(self.study, cell.model):
                yield self.record_exits(name)
                yield self.calibrate(name)
                yield self.judge_calibration(name)
            for point in self.points(name):
                if self.cascade(point):
                    yield self.fit_cascade(name, point)
                yield self.predict(name, point)
                yield self.score(name, point)
            yield from (self.summarize_energy(name, part) for part in self.parts(name))
