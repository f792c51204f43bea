"""Find results that no longer count, judged by their own stamps.

Neither times of files nor Snakemake's records are asked: both can be restored from elsewhere, or
touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from longwatt.files import read_object, sha256
from longwatt.freshness.in_force import InForce
from longwatt.freshness.source_checks import OUTDATED
from longwatt.provenance.stamps import MADE_FROM, STALE, Stage, agrees, digest, origin, read_stamp
from longwatt.study.settings_in_force import flat

CHANGES_NO_RESULT = "It says which results count, and makes none."

RESULTS = "results"
OTHER_CODE = "made by code"
# Behind the name of what was set aside for another reason than settings and code, which may come
# into force again.
UNMATCHED = ".unmatched"
SHOWN_SETTINGS = 3  # settings of one artefact that are named
LISTED_ARTEFACTS = 20  # artefacts that a message names
DIGEST_LENGTH = 12  # of a digest in a message
# A file that carries no stamp -> the artefact beside it that speaks for it.
SPEAKERS = {"tokenizer.json": "provenance.json", "batch_size.json": "probe.json"}

# Rule -> where the pages and figures that its artefact lists by digest lie, beside it.
PAGES = {
    "summarize": "", "tabulate": "", "plot": "", "plot_exits": "figures", "judge_claims": "",
    "answer": "",
}  # fmt: skip
# By artefact: the settings digest and the code digest that it must carry to count.
Stamps = Mapping[str, Sequence[str]]
Jobs = Iterable[Stage]


class StaleSummary(RuntimeError):
    """An error that names the artefacts which a summary does not agree with."""


@dataclass(frozen=True)
class Outdated:
    """An artefact that does not count.

    Attributes:
        artefact: its path.
        reason: its stamp, and what the stamp should be.
        code: digest of the code that made it, where that is the reason.
        otherwise: its settings or code are the reason, so it counts again once they are in force.
    """

    artefact: str
    reason: str
    code: str = ""
    otherwise: bool = False

    def __str__(self) -> str:
        return f"{self.artefact}: {self.reason}"


def differs(path: Path, digest: str) -> bool:
    """Return whether a file is gone or has another SHA-256 digest."""
    return not path.is_file() or sha256(path) != digest


@dataclass
class Files:
    """Files as they are now, each read once.

    Attributes:
        results: results/{study}, in place of the folder that the artefacts were made in.
    """

    results: Path
    _origins: dict[Path, str | None] = field(default_factory=dict)
    _blocks: dict[Path, dict[str, Any]] = field(default_factory=dict)

    def place(self, recorded: str) -> Path:
        """Find a recorded path, even if its study has been renamed or moved since."""
        parts = Path(recorded).parts
        of_study = parts[0] == RESULTS and len(parts) > 2
        return self.results.joinpath(*parts[2:]) if of_study else Path(recorded)

    def stamp(self, path: Path) -> dict[str, Any]:
        """Read an artefact's stamp, empty where it has none."""
        if path not in self._blocks:
            self._blocks[path] = read_stamp(path) or {}
        return self._blocks[path]

    def other_origin(self, path: Path) -> str | None:
        """Name an input that has changed since it was used, None where none has.

        An input outside the results that is gone (removed to free the disk) says nothing against
        the artefact.
        """
        for recorded, expected in self.stamp(path).get(MADE_FROM, {}).items():
            there = self.place(recorded)
            if not there.exists() and not recorded.startswith(RESULTS):
                continue
            if self._origin(there) != expected:
                return str(there)
        found = self.listed(path).items()
        return next((str(place) for place, known in found if differs(place, known)), None)

    def listed(self, path: Path) -> dict[Path, str]:
        """Return the digests of the files that an artefact lists, by their place."""
        listed = read_object(path).get(MADE_FROM)
        read = listed if isinstance(listed, dict) else {}
        return {self.place(recorded): expected for recorded, expected in read.items()}

    def _origin(self, path: Path) -> str | None:
        if path not in self._origins:
            self._origins[path] = origin(path) if path.is_file() else None
        return self._origins[path]

    def inputs(self, path: Path) -> Iterator[Path]:
        """Yield the stamped artefacts that an artefact was made from."""
        for recorded in self.stamp(path).get(MADE_FROM, {}):
            there = self.place(recorded)
            yield there.with_name(SPEAKERS.get(there.name, there.name))


class Counting:
    """A judge of artefacts, by the digests in force and by all their inputs."""

    def __init__(self, stamps: Stamps, results: Path) -> None:
        self._stamps = stamps
        self._files = Files(results)
        self._known: dict[Path, bool] = {}

    def counts(self, path: Path) -> bool:
        """Return whether an artefact exists, and its makers and inputs are current."""
        if path not in self._known:
            self._known[path] = False  # one that is made from itself counts for nothing
            self._known[path] = path.exists() and self._carries(path) and self._sound(path)
        return self._known[path]

    def _carries(self, path: Path) -> bool:
        if str(path) not in self._stamps:  # of a cell that the study has no more
            return False
        block, (settings, *codes) = self._files.stamp(path), self._stamps[str(path)]
        return block.get("settings_digest") == settings and block.get("code_digest") in codes

    def _sound(self, path: Path) -> bool:
        if self._files.other_origin(path) is not None:
            return False
        known = [one for one in self._files.inputs(path) if str(one) in self._stamps]
        return all(self.counts(one) if one.exists() else not is_set_aside(one) for one in known)


def outdated(in_force: InForce, results: Path, jobs: Jobs | None = None) -> list[Outdated]:
    """List a study's artefacts that no longer count, in the order of the flow.

    Only those of `jobs` are looked at, if it is given. Missing data are passed over: what was made
    from them says by itself if it counts.
    """
    files, found, changed = Files(results), [], in_force.changed_sources()
    for stage in in_force.stages.all() if jobs is None else jobs:
        path, codes = files.place(stage.artefact), in_force.codes(stage)
        reason = _reason(stage, codes, files, changed.get(stage.artefact, []))
        if reason:
            by_code = reason.startswith(OTHER_CODE)
            code = str(files.stamp(path).get("code_digest", "")) if by_code else ""
            found.append(Outdated(str(path), reason, code, not agrees(path, stage.settings, codes)))
    return found


def is_set_aside(artefact: Path) -> bool:
    """Return whether a missing artefact was renamed to be made again.

    An artefact that was removed to free the disk leaves no renamed file.
    """
    return any(Path(f"{artefact}{end}").exists() for end in (STALE, OUTDATED, UNMATCHED))


def shared_set_aside(jobs: Jobs) -> list[str]:
    """List data, weights and tokenizers that were set aside and are to be made again.

    The jobs come in the order of the flow, those of cells last.
    """
    shared = takewhile(lambda stage: not stage.artefact.startswith(RESULTS), jobs)
    missing = (Path(stage.artefact) for stage in shared if not Path(stage.artefact).exists())
    return [str(path) for path in missing if is_set_aside(path)]


def set_outdated_aside(in_force: InForce, results: Path) -> list[str]:
    """Rename every outdated artefact, whatever Snakemake's records say, and return their paths.

    An artefact of other settings or code becomes `NAME.stale`, which the next run takes back should
    they be in force again. Any other becomes `NAME.unmatched`, since by its settings and code alone
    it would be taken back at once.
    """
    there = [one for one in outdated(in_force, results) if Path(one.artefact).exists()]
    for one in there:
        Path(one.artefact).replace(one.artefact + (STALE if one.otherwise else UNMATCHED))
    return [one.artefact for one in there]


def _reason(stage: Stage, codes: Sequence[str], files: Files, changed: Sequence[str]) -> str | None:
    """Say why the artefact of a stage does not count, None if it does.

    Its code must have one of some digests, and no file may have changed since it was read from it.
    """
    path = files.place(stage.artefact)
    if not path.exists():
        gone = "set aside, and not made again yet" if is_set_aside(path) else None
        return "not there" if stage.artefact.startswith(RESULTS) else gone
    block, settings = files.stamp(path), dict(stage.settings)
    if not block:
        return "does not say what made it"
    if block.get("settings_digest") != digest(settings):
        return (
            f"made with other settings: {differing_settings(block.get('settings') or {}, settings)}"
        )
    if block.get("code_digest") not in codes:
        made_by = str(block.get("code_digest"))[:DIGEST_LENGTH]
        return f"{OTHER_CODE} {made_by}, which is now {codes[0][:DIGEST_LENGTH]}"
    if changed:
        return f"read from files that have changed since: {', '.join(changed)}"
    if other := files.other_origin(path):
        return f"made from another {other} than is there"
    return _changed_page(stage.rule, path)


def differing_settings(made: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the settings in which an artefact and the study differ, with both values."""
    one, other = dict(flat(made)), dict(flat(now))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    shown = [
        f"{name} {_value(one, name)}, now {_value(other, name)}" for name in names[:SHOWN_SETTINGS]
    ]
    rest = len(names) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def _value(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "not set"
    text = str(settings[name])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _changed_page(rule: str, path: Path) -> str | None:
    """Name a table, page or figure that has changed since its artefact listed it."""
    listed = read_object(path).get("sha256") if rule in PAGES else None
    if isinstance(listed, str):  # of the summary
        listed = {path.with_suffix(".csv").name: listed}
    for name, expected in listed.items() if isinstance(listed, dict) else ():
        page = path.parent / PAGES[rule] / name
        if differs(page, expected):
            return f"{page} is not the file that was written with it"
    return None


def message(study: str, found: Sequence[Outdated]) -> str:
    """Tell a user which results do not count, and what to do."""
    more = [f"and {len(found) - LISTED_ARTEFACTS} more"] if len(found) > LISTED_ARTEFACTS else []
    listed = "\n  ".join([*map(str, found[:LISTED_ARTEFACTS]), *more])
    codes = ", ".join(dict.fromkeys(one.code for one in found if one.code))
    keep = "To keep results of older code that you know to be harmless, put its digest into "
    keep = f"{keep}accept_code in config.yaml: [{codes}]. " if codes else ""
    return (
        f"{len(found)} results of {study} are not what the study, config.yaml and the code would "
        f"make now:\n  {listed}\nRun the study again (without --rerun-triggers), or undo the "
        f"change of its settings. {keep}Should the run find nothing to do (files were touched, or "
        "restored from elsewhere), first run: "
        f"longwatt results check results/{study} --set-aside"
    )
