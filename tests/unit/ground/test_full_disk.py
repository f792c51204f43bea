"""On a disk slightly too small, every writer that fails first says "no space"."""

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from longwatt.datasets import labelled
from longwatt.datasets.records import DatasetError
from longwatt.datasets.temporary import stored_in
from longwatt.disk_space import free_space, full, is_full, said_of_full
from longwatt.energy.log import append

# A worker writes as a training does, each file larger than the last: state, batches, weights.
# Then it ends as told.
WORKER = """
import os, signal
from pathlib import Path
from longwatt.inference.batch_store import BatchStore, StoredBatch, Took
from longwatt.files import whole_path
from longwatt.jobs.worker import run_worker
from longwatt.provenance.stamps import write_json

def work(spec):
    out, then = Path(spec.paths["out"]), spec.settings["then"]
    print("a line in the log")
    store = BatchStore(out / "work", {}, 0)
    store.begin()
    for number in range(4):
        store.add([StoredBatch(number, {"ids": ["x" * 900]}, Took("boot", 1, number, number + 1))])
    with whole_path(out / "weights") as partial:
        partial.write_bytes(bytes(40_000))
    write_json(out / "facts.json", {"facts": "x" * 3000})
    if then == "die":
        os.kill(os.getpid(), signal.SIGBUS)

if __name__ == "__main__":
    run_worker(work)
"""
JOB = """
import sys
from longwatt.jobs import launch, log

if __name__ == "__main__":
    out, then = sys.argv[1:]
    with log.logged(f"{out}/logs/job.log", f"{out}/work/failure.json"):
        print("the job itself")
        launch.run_workers(
            "full_worker",
            spec={
                "settings": {"then": then, "budget": {"gpus": 0, "processes": 1}},
                "paths": {"out": out}, "identity": {}, "provenance": {},
            },
            threads=1, work=f"{out}/work", label="cell x", energy_log=f"{out}/energy.jsonl.gz",
        )
"""


@pytest.fixture
def small(tmp_path):
    """Mount an empty file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system needs the rights to mount one: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, left: int) -> None:
    """Leave so many bytes free."""
    (folder / "filler").unlink(missing_ok=True)
    state = os.statvfs(folder)
    with (folder / "filler").open("wb") as stream:
        stream.write(bytes(max(0, state.f_bavail * state.f_frsize - left)))


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name, text in (("full_worker", WORKER), ("full_job", JOB)):
        (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "LONGWATT_LEASE_DIR": str(tmp_path / "leases")}

    def start(out: Path, then: str = "end") -> tuple[int, str]:
        command = [sys.executable, "-m", "full_job", str(out), then]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr

    return start


@pytest.mark.parametrize("left_kib", [0, 4, 16, 28, 44, 68])
def test_whichever_writer_strikes_first_the_disk_is_named(small, run, left_kib):
    fill(small, left_kib * 1024)
    status, said = run(small)
    if status == 0:
        assert left_kib > 50 and (small / "energy.jsonl.gz").exists()
        assert (small / "weights").stat().st_size == 40_000
        return
    assert "FAILED" in said and "no space left on device" in said.lower(), said
    assert f"MiB are free at {small}" in said and "free some, then run again" in said, said
    assert "died without a message" not in said and "Traceback" not in said, said
    (small / "filler").unlink()
    status, said = run(small)
    assert status == 0, said


def test_a_worker_that_dies_of_a_full_disk_without_a_word_is_explained(small, run):
    fill(small, 300 * 1024)
    status, said = run(small, "die")
    assert status == 1 and "a worker died without a message (signal 7); was it killed" in said, said
    fill(small, 100 * 1024)
    status, said = run(small, "die")
    assert status == 1
    assert "a worker died without a message (signal 7), with no space left: " in said, said


def test_a_log_that_the_disk_does_not_take_ends_no_job(small, tmp_path):
    fill(small, 0)
    script = (
        "import sys\nfrom longwatt import progress\nfrom longwatt.jobs import log\n"
        "with log.logged(sys.argv[1]):\n"
        "    progress.say('begun'); print('x' * 10_000); progress.say('still here')\n"
    )
    command = [sys.executable, "-c", script, str(small / "job.log")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert "longwatt: begun" in done.stderr and "longwatt: still here" in done.stderr
    assert done.stderr.count("the log cannot be written: No space left on device") == 1


def test_a_script_job_whose_output_does_not_fit_names_the_disk(small):
    fill(small, 8 * 1024)
    script = (
        "import sys\nfrom pathlib import Path\nimport matplotlib.pyplot as plt\n"
        "from longwatt.jobs import log\nfrom longwatt.layout.drawing import save\n"
        "folder = Path(sys.argv[1])\nwith log.logged(str(folder / 'job.log')):\n"
        "    save(plt.figure(), folder / 'figure')\n"
    )
    command = [sys.executable, "-c", script, str(small)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "longwatt: FAILED: OSError: [Errno 28] No space left on device" in done.stderr
    assert f"MiB are free at {small}" in done.stderr
    assert not list(small.glob("*.png")), "every file that is there is whole"


def test_a_packed_file_whose_copy_does_not_fit_is_not_blamed(small, tmp_path):
    table = pyarrow.table(
        {"input": [f"{number} words" * 50 for number in range(900)], "label": ["a", "b", "c"] * 300}
    )
    parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    fill(small, 16 * 1024)
    with stored_in(small), pytest.raises(OSError, match="No space left on device") as said:
        labelled.read({"files": {"train": str(tmp_path / "a.parquet.gz")}})
    assert not isinstance(said.value, DatasetError) and is_full(said.value)


def test_the_disk_of_results_behind_a_link_is_named_and_each_disk_once(small, tmp_path):
    (tmp_path / "results").symlink_to(small)
    fill(small, 0)
    folders = (tmp_path, tmp_path / "results", tmp_path / "x")
    said = said_of_full(OSError(errno.ENOSPC, "No space left on device"), *folders)
    assert said.count("free at") == 2 and f"0.0 MiB are free at {small}" in said


class Wrapped(RuntimeError):
    """An error with a library's own words."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "results/x"),
        OSError(errno.EFBIG, "File too large"),
        Wrapped('SafetensorError: I/O error: No space left on device (os error 28)'),
        Wrapped("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        Wrapped("[enforce fail] . PytorchStreamWriter failed writing file data/12: write failed"),
    ],
)  # fmt: skip
def test_a_full_disk_is_told_in_every_wording(error, tmp_path):
    assert is_full(error)
    outer = ValueError("the table could not be written")
    outer.__cause__ = error
    assert is_full(outer), "also where it is the cause of another"
    plain = ("no space left on device", "quota exceeded", "file too large")
    assert any(words in said_of_full(error, tmp_path).lower() for words in plain)
    assert "free at" in said_of_full(error, tmp_path)
    assert said_of_full(error, tmp_path / "not/there")


def test_other_errors_are_no_full_disk(tmp_path):
    others = (OSError(errno.EACCES, "Permission denied"), ValueError("28"), KeyError("x"))
    assert not any(map(is_full, others))
    assert free_space(tmp_path).endswith(f"free at {tmp_path.resolve()}")


def test_a_line_that_does_not_fit_is_an_error_with_its_file(small):
    fill(small, 4096)
    with pytest.raises(OSError, match="No space left on device") as said:
        append(small / "lines.jsonl", {"x": "y" * 10_000})
    assert said.value.errno == errno.ENOSPC
    assert full([small]) == [small] and is_full(said.value)
