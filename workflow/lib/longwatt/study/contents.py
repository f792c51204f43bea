"""Hold what a study has: cells, points, and the keys of its data and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from longwatt.config.documents import check_name
from longwatt.study import cells as grid
from longwatt.study import settings
from longwatt.study.cascade_cells import cascade_of
from longwatt.study.claims import claims_of


class StudyContents:
    """The contents of one study, by the names and keys that its jobs go by.

    Args:
        study_id: the study file's name, and its folder below results/.
        study: a study read by `longwatt.config.studies.read_study`.
        machine: config.yaml, used only where a stage's result depends on it.

    Raises:
        StudyError: the grid names something that does not exist.
    """

    def __init__(self, study_id: str, study: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        self.study_id = study_id
        self.study = study
        self.machine = machine
        self.cells = grid.expand(study, self.source)

    @property
    def source(self) -> str:
        """The study's file, as messages name it."""
        return f"studies/{self.study_id}.yaml"

    @property
    def results(self) -> str:
        """The study's results folder."""
        return f"results/{self.study_id}"

    def cell(self, name: str) -> grid.Cell:
        """Look a cell up by its id, or raise StudyError."""
        if name not in self.cells:
            check_name("cell", name, self.cells, self.source)
        return self.cells[name]

    @cached_property
    def grid_points(self) -> dict[str, list[str]]:
        """The inference points of every cell that the grid names, excluded cells included."""
        return grid.points_of_cells(self.study)

    def points(self, name: str) -> list[str]:
        """List a cell's inference points."""
        self.cell(name)
        return self.grid_points[name]

    def cascade(self, point: str) -> dict[str, Any]:
        """Return the cascade that an inference point is, empty where it is none."""
        return cascade_of(self.study["inference"][point])

    @property
    def _there(self) -> dict[str, tuple[grid.Cell, list[str]]]:
        """The study's cells with their inference points, by name."""
        return {name: (cell, self.points(name)) for name, cell in self.cells.items()}

    def parts(self, name: str) -> list[str]:
        """List the parts of a cell that are metered."""
        return [grid.FINETUNE, *(grid.PREDICT + point for point in self.points(name))]

    def gpus(self, name: str) -> int:
        """Return how many devices a cell's jobs lease."""
        return int(self.study["budgets"][self.cell(name).budget]["gpus"])

    @cached_property
    def uses_gpus(self) -> bool:
        """True if any cell leases devices."""
        return any(map(self.gpus, self.cells))

    @cached_property
    def with_exits(self) -> list[str]:
        """The cells whose models have several exits, by name."""
        return [
            name for name, cell in self.cells.items() if grid.several_exits(self.study, cell.model)
        ]

    @cached_property
    def claims(self) -> dict[str, Mapping[str, Any]]:
        """The study's claims by id."""
        return claims_of(self.study)

    @cached_property
    def datasets(self) -> dict[str, str]:
        """The datasets in use, by key."""
        used = (cell.dataset for cell in self.cells.values())
        return {settings.dataset_key(self.study, name): name for name in used}

    @cached_property
    def tokenizers(self) -> dict[str, str]:
        """The tokenizers in use, by key."""
        used = (self.study["models"][cell.model]["tokenizer"] for cell in self.cells.values())
        return {settings.tokenizer_key(self.study, name): name for name in used}

    @cached_property
    def models(self) -> dict[str, str]:
        """The pretrained models in use, by key, which models of one origin share."""
        named = {settings.model_key(self.study, c.model): c.model for c in self.cells.values()}
        return {key: model for key, model in named.items() if key}

    def pairs(self) -> list[tuple[str, str]]:
        """List the datasets and tokenizers that some cell uses together, by key."""
        keys = {settings.tokens_key(self.study, self.cells[name]) for name in self._by_data()}
        return [(key.split("/")[0], key.split("/")[1]) for key in sorted(keys)]

    def _by_data(self) -> Iterable[str]:
        """Name one cell for every dataset and model, as nothing else counts before training."""
        return {(cell.dataset, cell.model): name for name, cell in self.cells.items()}.values()
