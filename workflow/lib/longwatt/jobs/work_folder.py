"""Manage a cell's work folder: attempts, whole checkpoints and the best weights.

The folder is no declared output of any rule, so Snakemake never deletes it. It holds all that a
killed training needs to go on. It also holds the result of a finished training until its settings,
code or data change: a Snakemake that died before it recorded the training deletes the outputs, and
they are then put in place again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.log import FOLDER as ENERGY
from longwatt.energy.log import append, forget_runs
from longwatt.files import fsync, fsync_tree, json_lines, read_object
from longwatt.provenance.stamps import digest, write_json

GIVEN_UP = "given_up.json"  # of a training that ended without a result, and would again
TIMES = "times.json"  # in a checkpoint
COMPLETE = "complete.json"  # written last into a checkpoint; a folder without it is torn
READ_BYTES = 2**20
KEPT_CHECKPOINTS = 2  # one to resume from, one before it should that be unreadable


class WorkFolder:
    """Attempts and checkpoints of one cell's training.

    Args:
        path: results/{study}/{cell}/work.
        identity: digests of settings, code, data, tokenizer and starting weights; work of another
            identity is never resumed.
        energy_log: this run's energy log, kept when earlier work is removed.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, str], energy_log: Path | None = None
    ) -> None:
        self.path = path
        self.identity = dict(identity)
        self.energy_log = energy_log
        self.checkpoints = path / "checkpoints"
        self.attempts_log = path / "attempts.jsonl"
        self.result = path / "result"

    def begin(self, **facts: Any) -> tuple[int, Path | None, str]:
        """Start an attempt, after removing work that it must not go on from.

        Such work was made with other settings, code or data, or had completed. Returned are the
        attempt's number, the checkpoint to resume from, and a sentence that names it.
        """
        reason = self._why_clean()
        if reason:
            self.clear()
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "identity.json", self.identity)
        for unfinished in ("partial", "result.part"):
            shutil.rmtree(self.path / unfinished, ignore_errors=True)
        checkpoint, damage = self._last_usable()
        attempt = len(self.starts()) + 1
        step = checkpoint_step(checkpoint) if checkpoint else 0
        self._drop_later_weights(step)
        me = {"pid": os.getpid(), "host": socket.gethostname()}
        self._log("start", attempt=attempt, from_step=step, **me, **facts)
        went_on = f"resumes at step {step}" if checkpoint else "starts from the beginning"
        why = "; ".join(filter(None, (reason, *damage)))
        return attempt, checkpoint, f"attempt {attempt} {went_on}{why and f' ({why})'}"

    def starts(self) -> list[dict[str, Any]]:
        """Return the start records of all attempts so far."""
        return [line for line in read_lines(self.attempts_log) if line["event"] == "start"]

    def end(self, attempt: int, status: str) -> None:
        """Record how an attempt ended."""
        self._log("end", attempt=attempt, status=status)

    def partial_checkpoint(self) -> Path:
        """Make an empty folder to write the next checkpoint into."""
        partial = self.path / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def commit_checkpoint(self, written: Path, step: int, state: Mapping[str, Any]) -> None:
        """Make a written checkpoint durable, put it in place whole, and drop those it replaces."""
        facts = {"step": step, "state": state, "identity": self.identity}
        facts["files"] = _contents(written)
        write_json(written / COMPLETE, {**facts, "sha256": _digest_of(facts)})
        fsync_tree(written)
        final = self.checkpoints / f"checkpoint-{step}"
        shutil.rmtree(final, ignore_errors=True)
        written.rename(final)
        fsync(self.checkpoints)
        for old in self._complete()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)
        wanted = {checkpoint_state(path).get("best_step") for path in self._complete()}
        for path in self._weights():
            if path not in {self.best(best) for best in wanted if best is not None}:
                self._drop_weights(path)

    def note_times(self, step: int, times: Mapping[str, float]) -> None:
        """Add to a committed checkpoint the times so far, which include its own writing."""
        write_json(self.checkpoints / f"checkpoint-{step}" / TIMES, times)

    def best(self, step: int) -> Path:
        """Return the folder of the weights that were best at a step."""
        return self.path / f"best-{step}"

    def keep_best(self, written: Path, step: int) -> None:
        """Make written weights durable and put them in place whole."""
        # The digests lie beside the folder, which becomes a result.
        write_json(self.path / f"best-{step}.json", _contents(written))
        fsync_tree(written)
        shutil.rmtree(self.best(step), ignore_errors=True)
        written.rename(self.best(step))
        fsync(self.path)

    def has_result(self) -> bool:
        """Return whether this very training has completed and its result is still here."""
        return self.result.is_dir() and read_object(self.path / "identity.json") == self.identity

    def finish(self, attempt: int, result: Path) -> None:
        """Put a written result in place whole, and keep only records and logs."""
        fsync_tree(result)
        result.rename(self.result)
        fsync(self.path)
        self.end(attempt, "completed")
        self._free()

    def _free(self) -> None:
        """Remove all that only an unfinished training needs."""
        for folder in (self.checkpoints, self.path / "partial"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self._weights():
            self._drop_weights(path)

    def give_up(self, attempt: int, message: str, anew: str) -> None:
        """Record that this very training ends without a result, and free the disk.

        The message says why; `anew` is the command that asked to train again regardless, or empty.
        """
        record = {"identity": self.identity, "message": message, "anew": anew}
        write_json(self.path / GIVEN_UP, record)
        self.end(attempt, "diverged")
        self._free()

    def gave_up(self) -> dict[str, Any]:
        """Return the `message` and `anew` of this very training's `give_up`, or nothing."""
        record = read_object(self.path / GIVEN_UP)
        return record if record.get("identity") == self.identity else {}

    def clear(self) -> None:
        """Remove all earlier work."""
        if self.result.exists():  # at once or not at all: half a result must not look like one
            shutil.rmtree(self.path / "discarded", ignore_errors=True)
            self.result.rename(self.path / "discarded")
        # The list of attempts goes last: while it is there, a removal that was killed is repeated.
        for entry in sorted(self.path.iterdir(), key=lambda path: path == self.attempts_log):
            if entry.name == ENERGY:
                forget_runs(entry, self.energy_log)
            elif entry.is_dir() and not entry.name.startswith("predict-"):
                shutil.rmtree(entry)
            elif entry == self.attempts_log or _is_disposable(entry):
                entry.unlink()

    def _why_clean(self) -> str:
        """Say why earlier work cannot be continued, or "" if it can or is absent."""
        lines = read_lines(self.attempts_log)
        if not lines:
            return ""
        recorded = read_object(self.path / "identity.json")
        differing = [key for key, value in self.identity.items() if recorded.get(key) != value]
        if differing:
            return f"earlier work was made with other {', '.join(differing)} and is not continued"
        return "the attempt before had completed" if lines[-1].get("status") == "completed" else ""

    def _complete(self) -> list[Path]:
        """List the whole checkpoints of this very training, oldest first."""
        every = self.checkpoints.glob("checkpoint-*")
        mine = [c for c in every if read_object(c / COMPLETE).get("identity") == self.identity]
        return sorted(mine, key=checkpoint_step)

    def _last_usable(self) -> tuple[Path | None, list[str]]:
        """Find the checkpoint to resume from, and the problems of newer ones, which are removed."""
        damage: list[str] = []
        every = self.checkpoints.glob("checkpoint-*")
        for path in sorted(every, key=checkpoint_step, reverse=True):
            problem = self._problem(path)
            if problem is None:
                return path, damage
            damage.append(f"{path.name} cannot be used: {problem}")
            shutil.rmtree(path)
        return None, damage

    def _problem(self, checkpoint: Path) -> str | None:
        """Say why training cannot resume from a checkpoint, or None if it can."""
        facts = read_object(checkpoint / COMPLETE)
        sealed = facts.pop("sha256", None)
        if "files" not in facts:
            return "it was not written to its end"
        if facts.get("identity") != self.identity:
            return "it is another training's"
        if sealed != _digest_of(facts):
            return f"{COMPLETE} is damaged"
        found = _contents(checkpoint)
        torn = [name for name, digest in facts["files"].items() if found.get(name) != digest]
        if torn:
            return f"{torn[0]} is {'damaged' if torn[0] in found else 'missing'}"
        # Without the best weights the run could end with other weights than it should.
        step = facts["state"].get("best_step")
        if step is None:
            return None
        if not self.best(step).is_dir():
            return f"the best weights, of step {step}, are gone"
        sound = _contents(self.best(step)) == read_object(self.path / f"best-{step}.json")
        return None if sound else f"the best weights, of step {step}, are damaged"

    def _weights(self) -> list[Path]:
        return [path for path in self.path.glob("best-*") if path.is_dir()]

    def _drop_later_weights(self, step: int) -> None:
        """Drop best weights of steps that are trained again: they would mix two runs."""
        for path in self._weights():
            if int(path.name.removeprefix("best-").split(".")[0]) > step or path.suffix == ".part":
                self._drop_weights(path)

    def _drop_weights(self, path: Path) -> None:
        path.with_name(f"{path.name}.json").unlink(missing_ok=True)
        shutil.rmtree(path)

    def _log(self, event: str, **facts: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        append(self.attempts_log, {"event": event, "wall_time_s": time.time(), **facts})
        fsync(self.attempts_log)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the training step of a checkpoint folder."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def checkpoint_state(checkpoint: Path) -> dict[str, Any]:
    """Read the engine's own state from a complete checkpoint."""
    return dict(read_object(checkpoint / COMPLETE)["state"])


def checkpoint_times(checkpoint: Path) -> dict[str, float]:
    """Read the sound times that `WorkFolder.note_times` added, none if a kill came between."""
    known, said = checkpoint_state(checkpoint), read_object(checkpoint / TIMES)
    return {key: said[key] for key in said if key in known and isinstance(said[key], int | float)}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the records of attempts without torn or damaged lines. A missing file has none."""
    if not path.is_file():
        return []
    lines = json_lines(path.read_text(encoding="utf-8", errors="replace"))
    return [line for line in lines if isinstance(line, dict) and "event" in line]


def _contents(checkpoint: Path) -> dict[str, list[int]]:
    """Return size and CRC-32 of a checkpoint's files, except those that are added later."""
    every = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    files = [path for path in every if path.name not in (COMPLETE, TIMES)]
    return {str(one.relative_to(checkpoint)): [one.stat().st_size, _crc32(one)] for one in files}


def _digest_of(facts: Mapping[str, Any]) -> str:
    """Digest a checkpoint's facts as they will be read again."""
    return digest(json.loads(json.dumps(facts)))


def _crc32(path: Path) -> int:
    checksum = 0  # a cryptographic digest of gigabytes would take several times as long
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _is_disposable(path: Path) -> bool:
    """Return whether a file describes only earlier work: its identity, failure or weights."""
    of_one = path.name.startswith(("failure-", "best-")) and path.suffix == ".json"
    return of_one or path.name in ("identity.json", GIVEN_UP)
