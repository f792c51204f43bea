"""Make a first study: look at rows, choose, write a folder that runs, overwrite nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longwatt import shipped
from longwatt.config.studies import STUDY_NAME
from longwatt.datasets.reading.row_files import format_of
from longwatt.datasets.records import SPLITS
from longwatt.files import whole_file
from longwatt.first_study import composed, splits
from longwatt.first_study.composed import Draft
from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.fields import Asked, RowFields, RowValues, guess_fields
from longwatt.first_study.machine_seen import Machine, machine_here
from longwatt.first_study.model_sources import Model, counter_of, find_model, slug
from longwatt.first_study.row_sources import (
    JSON_FORMATS,
    GivenFiles,
    first_values,
    given_files,
    rows_of_file,
)
from longwatt.first_study.settings_chosen import choose_settings
from longwatt.first_study.texts_seen import Seen, example_of, look_at_rows
from longwatt.freshness.in_force import MACHINE_FILE
from longwatt.metric_words import METRICS_OF_TEXTS
from longwatt.readiness.data_rows import look_at_data
from longwatt.spelling import nearest
from longwatt.study.checks import LABEL_METRICS
from longwatt.tasks import CLASSIFICATION, TEXT

SPLIT_FILE = "data/{among}{split}.jsonl"


@dataclass(frozen=True)
class FirstStudy:
    """The wishes of a user on the command line.

    Attributes:
        folder: to write into.
        data: files, as given.
        model: as given.
        revision: of a model of the hub.
        study: name of the study; None for the folder's.
        fields: names of fields.
        task, metric, family: in place of guesses.
    """

    folder: Path
    data: list[str]
    model: str
    revision: str | None = None
    study: str | None = None
    fields: Asked = field(default_factory=Asked)
    task: str | None = None
    metric: str | None = None
    family: str | None = None


@dataclass(frozen=True)
class Look:
    """The first look at a user's rows.

    Attributes:
        files: as given, by split.
        rows: the first of the training split.
        fields: what they hold.
        seen: what is asked of a model, and how long texts are.
    """

    files: GivenFiles
    rows: list[RowValues]
    fields: RowFields
    seen: Seen

    def told(self) -> list[str]:
        """Say what was found, a line each."""
        seen, fields = self.seen, self.fields
        what = "labels (classification)" if seen.task == CLASSIFICATION else "texts"
        roles = [f"input: {fields.chat or fields.input}", f"output: {fields.chat or fields.output}"]
        roles += [f"query: {fields.query}"] if fields.query and not fields.chat else []
        return [
            *(f"{split}: {path}" for split, path in self.files.by_split.items()),
            f"fields: {', '.join(roles)}",
            *(f"  {why}" for why in fields.reasons),
            f"the output is {what}: {seen.task_reason}",
            f"metric {seen.metric}: {seen.metric_reason}",
        ]


def first_look(wanted: FirstStudy) -> Look:
    """Look at the first rows of a user's files.

    Raises:
        FirstStudyError: nothing can be made of them. Says what to do.
    """
    _check_words(wanted)
    files = given_files(wanted.data)
    rows: list[RowValues] = list(first_values(files.by_split["train"]))
    fields = guess_fields(rows, wanted.fields)
    seen = look_at_rows(rows, fields, wanted.task, wanted.metric, None)
    if seen is None:
        raise FirstStudyError(
            f"--data {files.by_split['train']}: none of the first {len(rows)} rows has both "
            f"{fields.input!r} and {fields.output!r}; name the fields: --input FIELD --output FIELD"
        )
    _check_metric(seen)
    return Look(files, rows, fields, seen)


def _check_words(wanted: FirstStudy) -> None:
    if wanted.task not in (None, TEXT, CLASSIFICATION):
        raise FirstStudyError(f"--task {wanted.task}: give {TEXT} or {CLASSIFICATION}")
    known = dict.fromkeys((*METRICS_OF_TEXTS, *LABEL_METRICS))
    if wanted.metric is not None and wanted.metric not in known:
        hint = nearest(wanted.metric, known)
        raise FirstStudyError(f"--metric {wanted.metric}{hint}; known: {', '.join(known)}")
    name = study_name_of(wanted)
    if not STUDY_NAME.fullmatch(name):
        raise FirstStudyError(
            f"--study {name}: a study's name has letters, digits, dots, dashes and underscores, "
            "and begins with a letter or digit"
        )


def _check_metric(seen: Seen) -> None:
    fit = LABEL_METRICS if seen.task == CLASSIFICATION else METRICS_OF_TEXTS
    if seen.metric not in fit:
        what = "labels" if seen.task == CLASSIFICATION else "texts"
        raise FirstStudyError(
            f"--metric {seen.metric} does not fit outputs that are {what}; give one of "
            f"{', '.join(fit)}"
        )


def study_name_of(wanted: FirstStudy) -> str:
    """Return the study's name, by default the folder's."""
    return wanted.study or slug(wanted.folder.resolve().name)


@dataclass(frozen=True)
class StudyWritten:
    """A study as it was written.

    Attributes:
        study: its name.
        written: paths, relative to the folder.
        kept: files that were there already and stay as they are.
        did: sentences on the data.
    """

    study: str
    written: list[str]
    kept: list[str]
    did: list[str]


def make(
    wanted: FirstStudy, seen_first: Look | None = None, machine: Machine | None = None
) -> StudyWritten:
    """Write a first study into a folder.

    Args:
        wanted: what the user asks for.
        seen_first: the look at the rows, if it was taken already.
        machine: to write for; None for this one.

    Raises:
        FirstStudyError: something is in the way; nothing was written then, or data files alone.
    """
    seen_rows = seen_first or first_look(wanted)
    model = find_model(wanted.model, wanted.revision, seen_rows.seen.task, wanted.family)
    return _Maker(wanted, seen_rows, model, machine or machine_here()).make()


class _Maker:
    """One making of a study."""

    def __init__(self, wanted: FirstStudy, looked: Look, model: Model, machine: Machine) -> None:
        self.wanted, self.looked, self.model, self.machine = wanted, looked, model, machine
        self.name, self.labels = study_name_of(wanted), looked.seen.task == CLASSIFICATION
        self.fields = looked.fields
        self.rewrites = self._must_rewrite()
        self.told: list[str] = []
        # The folder that stays if nothing comes of this: the user's own, if it was there.
        self.keeps = wanted.folder if wanted.folder.exists() else wanted.folder.parent

    def make(self) -> StudyWritten:
        """Write the data files, then all others, and check them as their first job will."""
        missing = self.looked.files.missing
        places = self._places(missing)
        study, extra = self._targets()
        self._check_free([*places.values(), study])
        try:
            files, train_rows = self._write_data(missing, places)
            self._check_data(files)
            draft = self._draft(files, train_rows)
            texts = {study: composed.study_text(draft)}
        except BaseException:  # on Ctrl-C too: data without a study would only be in the way
            self._remove(places.values())
            raise
        texts |= {path: text for path, text in self._extra(draft).items() if not path.exists()}
        kept = [path for path in extra if path.exists()]
        for path, text in texts.items():
            with whole_file(path) as stream:
                stream.write(text)
        written = [*places.values(), *texts]
        return StudyWritten(self.name, self._relative(written), self._relative(kept), self.told)

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove files that were made a moment ago, and folders that are empty then."""
        for path in paths:
            path.unlink(missing_ok=True)
            for folder in (path.parent, *path.parent.parents):
                if folder == self.keeps:
                    break
                with contextlib.suppress(OSError):  # something else is in it
                    folder.rmdir()

    # Data

    def _must_rewrite(self) -> str | None:
        """Say why rows cannot be used as they are, None if they can."""
        files, fields = self.looked.files.by_split.values(), self.fields
        if fields.chat:
            return f"{fields.chat} is split into input and output"
        if fields.nested:
            return "fields inside objects are put beside the others"
        if not self.labels and any(format_of(path.name) not in JSON_FORMATS for path in files):
            return "texts are read from JSON lines"
        if not self.labels and self.looked.seen.odd_outputs:
            return "outputs that are numbers are written as text"
        if not self.labels and self._ids_clash():
            return "rows are numbered, since their `id` stands on rows of different texts"
        return None

    def _ids_clash(self) -> bool:
        """Check whether rows share an `id` (so that they would be one) though texts differ."""
        texts: dict[str, str] = {}
        for row in self.looked.rows:
            example, id_ = example_of(row, self.fields), row.get("id")
            if example is None or id_ is None:
                continue
            text = f"{example.query}\n\n{example.input}"
            if not isinstance(id_, str | int) or texts.setdefault(str(id_), text) != text:
                return True
        some = ["id" in row for row in self.looked.rows]
        return any(some) and not all(some)

    def _places(self, missing: list[str]) -> dict[str, Path]:
        """Name the files that are written here, by split."""
        given = list(self.looked.files.by_split)
        made = given if self.rewrites else (["train"] if missing else [])
        # In a folder with a study already, each further one has a folder of data of its own.
        folder, own = self.wanted.folder, self.looked.files.by_split.values()
        usual = [folder / SPLIT_FILE.format(among="", split=split) for split in SPLITS]
        taken = (folder / MACHINE_FILE).exists() or {p.resolve() for p in usual} & {
            path.resolve() for path in own
        }
        among = f"{self.name}/" if taken else ""
        return {
            split: folder / SPLIT_FILE.format(among=among, split=split)
            for split in [*made, *missing]
        }

    def _write_data(
        self, missing: list[str], places: Mapping[str, Path]
    ) -> tuple[dict[str, Path], int]:
        """Write the splits that are missing, or whose rows must be written anew."""
        files = {**self.looked.files.by_split, **places}
        train = self.looked.files.by_split["train"]
        rewrite = self._rewrite if self.rewrites else None
        if missing:
            rows = self._split(train, missing, places, rewrite)
        else:
            rows = sum(example_of(r.values, self.fields) is not None for r in rows_of_file(train))
        for split, path in self.looked.files.by_split.items():
            if split in places and not (missing and split == "train"):
                count = splits.write_whole(path, places[split], self.fields, self._rewrite)
                self.told.append(f"{self._named(places[split])} has the {count} rows of {path}.")
        if self.rewrites:
            self.told.append(f"They were written anew: {self.rewrites}.")
        if not places:
            self.told.append("These are your own files, read where they lie.")
        return files, rows

    def _split(
        self, train: Path, missing: list[str], places: Mapping[str, Path],
        rewrite: Callable[[RowValues, Any, int], RowValues] | None,
    ) -> int:  # fmt: skip
        groups, lacking = splits.rows_by_document(train, self.fields)
        of = splits.assigned(groups, missing, self.labels)
        parts = {split: places[split] for split in ("train", *missing)}
        counts = splits.write_splits(train, parts, of, self.fields, rewrite)
        listed = ", ".join(f"{count} {split}" for split, count in counts.items())
        lines = "" if format_of(train.name) in JSON_FORMATS else " into JSON lines"
        self.told.append(
            f"{train} was split{lines}: {listed} rows. Equal inputs ({len(groups)} different "
            "ones) stay in one split, and the same rows come to the same split on every machine."
        )
        if lacking:
            self.told.append(f"{lacking} rows without an input or an output were left out.")
        return counts["train"]

    def _rewrite(self, row: RowValues, example: Any, number: int) -> RowValues:
        made = splits.plain_row(row, self.fields, example, number, self.labels)
        if not self.labels and self.rewrites and "numbered" in self.rewrites:
            return {**made, "id": str(number)}
        return made

    def _own_fields(self) -> dict[str, str]:
        """Name the fields of the study's files, by role."""
        output = "label" if self.labels else "output"
        query = "second" if self.labels else "query"
        if self.rewrites:
            names = {"input": "input", output: output}
            return names | ({query: "query"} if self.fields.query else {})
        own = {"input": self.fields.input, output: self.fields.output}
        return own | ({query: self.fields.query} if self.fields.query else {})

    def _check_data(self, files: Mapping[str, Path]) -> None:
        """Read all rows as the first job will, and refuse what it would refuse."""
        source = "labelled" if self.labels else "jsonl"
        options = {"files": {s: str(p) for s, p in files.items()}, "fields": self._own_fields()}
        found = look_at_data(source, options, CLASSIFICATION if self.labels else None)
        if found.problems:
            raise FirstStudyError("\n".join([
                "the rows cannot all be used; mend or remove these, then run this again:",
                *(f"  {one}" for one in found.problems),
            ]))  # fmt: skip
        self.told += [f"{one[0].upper()}{one[1:]}." for one in found.notes]

    # Files

    def _targets(self) -> tuple[Path, list[Path]]:
        folder = self.wanted.folder
        extra = [folder / name for name in (MACHINE_FILE, ".gitignore", "README.md")]
        return folder / "studies" / f"{self.name}.yaml", extra

    def _extra(self, draft: Draft) -> dict[Path, str]:
        _, (config, ignore, readme) = self._targets()
        return {
            config: composed.config_text(shipped.ROOT / MACHINE_FILE, self.name),
            ignore: composed.gitignore_text(),
            readme: composed.readme_text(draft, self.told),
        }

    def _check_free(self, paths: list[Path]) -> None:
        """Refuse to write over anything, before anything is written."""
        folder = self.wanted.folder
        if folder.exists() and not folder.is_dir():
            raise FirstStudyError(f"{folder} is a file, but a folder is expected; name another one")
        for path in paths:
            if path.exists() or path.is_symlink():
                raise FirstStudyError(
                    f"{path} is there already, and nothing is written over; nothing was written. "
                    "Name another folder, move that file away, or give the study another name "
                    "(--study NAME)"
                )

    def _draft(self, files: Mapping[str, Path], train_rows: int) -> Draft:
        seen = self._measured()
        return Draft(
            study=self.name,
            title=self.wanted.study or self.wanted.folder.resolve().name or self.name,
            files={split: self._named(path) for split, path in files.items()},
            fields=self._own_fields(),
            seen=seen,
            guessed=self.fields,
            model=self.model,
            chosen=choose_settings(seen, self.model, self.machine, train_rows),
            machine=self.machine,
            told=tuple(self.told),
        )

    def _measured(self) -> Seen:
        """Measure lengths again where the model's own tokenizer is at hand."""
        count, seen = counter_of(self.model), self.looked.seen
        if count is None:
            return seen
        found = look_at_rows(self.looked.rows, self.fields, seen.task, seen.metric, count)
        assert found is not None, "the first look found rows"
        return replace(found, task_reason=seen.task_reason, metric_reason=seen.metric_reason)

    def _named(self, path: Path) -> str:
        """Name a file as the study does, relative to its folder if it lies there."""
        whole, folder = path.resolve(), self.wanted.folder.resolve()
        return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)

    def _relative(self, paths: list[Path]) -> list[str]:
        return [self._named(path) for path in paths]
