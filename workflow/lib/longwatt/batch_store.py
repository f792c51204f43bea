"""What an inference has predicted so far, so that a killed one goes on at the first missing batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.log import append
from longwatt.provenance import fsync, json_lines, read_object, write_json


class BatchStore:
    """One file of JSON lines for each process, in the work folder of an inference.

    A line is there as soon as its batch is predicted, so it outlives the process; `sync` has it outlive the machine.

    Args:
        folder: results/{study}/{cell}/work/predict-{inference}.
        identity: digests of settings, code, data and training; batches of another identity are never used.
        rank: the process that adds batches.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], rank: int) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.rank = rank
        self.path = folder / f"batches-{rank}.jsonl"

    def begin(self, anew: str = "") -> bool:
        """Drop batches of another identity, or all; says whether there could be none to go on from.

        To be called by one process before any looks.

        Args:
            anew: the command that asks to begin anew; under the same one only the first attempt does.
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
        """Every predicted batch by its number, with the process (`rank`) that predicted it."""
        found = {}
        for path in sorted(self.folder.glob("batches-*.jsonl")):
            rank = int(path.stem.removeprefix("batches-"))
            for line in json_lines(path.read_text(encoding="utf-8")):
                found[line["batch"]] = {**line["result"], "rank": rank}
        return dict(sorted(found.items()))

    def add(self, number: int, result: Mapping[str, Any]) -> None:
        """Keep a batch.

        Raises:
            OSError: the disk did not take it.
        """
        append(self.path, {"batch": number, "result": result})

    def sync(self) -> None:
        """Have what was added survive the machine."""
        if self.path.exists():
            fsync(self.path)
