"""Keep the batches of an inference, so that a killed one goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwatt.energy.log import append
from longwatt.files import fsync, json_lines, read_object
from longwatt.provenance.stamps import write_json


@dataclass(frozen=True)
class Took:
    """The time that a batch took, by the clock of its attempt's energy log."""

    boot_id: str | None  # monotonic times of different boots cannot be compared
    attempt: int  # number of the run and of its log
    start_ns: int  # CLOCK_MONOTONIC
    end_ns: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class StoredBatch:
    """One predicted batch: its place among all batches, its predictions (JSON) and its time."""

    number: int
    result: Mapping[str, Any]
    took: Took


class BatchStore:
    """A file of JSON lines per process, in the work folder of an inference.

    A written line outlives the process; `sync` makes it outlive the machine. Each line carries the
    time that its batch took, so that exactly the kept batches are billed.

    Args:
        folder: results/{study}/{cell}/work/predict-{inference}.
        identity: digests of settings, code, data and training; batches of another are never used.
        rank: the process that adds batches.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], rank: int) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.rank = rank
        self.path = folder / f"batches-{rank}.jsonl"

    def begin(self, anew: str = "") -> bool:
        """Drop batches of another identity or, at the first attempt of a command `anew`, all.

        It is called once, before any process reads, and returns whether it dropped them.
        """
        name = self.folder / "identity.json"
        recorded = read_object(name)
        if recorded.get("made_from") == self.identity and anew in ("", recorded.get("anew")):
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)  # first: a removal that is killed must be repeated
        for path in self.folder.glob("batches-*.jsonl"):
            path.unlink()
        write_json(name, {"made_from": self.identity, "anew": anew})
        return True

    def kept(self) -> dict[int, dict[str, Any]]:
        """Return all kept results by batch number, with the process (`rank`) and time (`took`)."""
        found = {}
        for path in sorted(self.folder.glob("batches-*.jsonl")):
            rank = int(path.stem.removeprefix("batches-"))
            for line in json_lines(path.read_text(encoding="utf-8")):
                added = {"rank": rank, "took": Took(**line["took"])}
                found[line["batch"]] = {**line["result"], **added}
        return dict(sorted(found.items()))

    def add(self, batches: Sequence[StoredBatch]) -> None:
        """Keep some batches with one write, or raise an OSError if the disk lacks room."""
        lines = [{"batch": b.number, "took": asdict(b.took), "result": b.result} for b in batches]
        append(self.path, *lines)

    def sync(self) -> None:
        """Make the batches added so far survive the machine."""
        if self.path.exists():
            fsync(self.path)
