"""A job's log, and the record of how it failed."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from longwatt.disk_space import is_full, said_of_full
from longwatt.files import link_or_copy
from longwatt.jobs.sigterm import Stopped
from longwatt.progress import LABEL_VARIABLE, TERMINAL, outlast_full_disk, share_terminal
from longwatt.provenance.stamps import write_json

CHANGES_NO_RESULT = "It runs a job and meters it; the work is done elsewhere."

# Only the jobs that download may fetch. They downloaded all that the others need.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # loading old weights would start a request to the hub
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
UNFINISHED = ".unfinished"  # of a second name of the log, until the job has ended well
GOES_ON = "the next run goes on"


class JobError(RuntimeError):
    """A job's workers failed, with this message of theirs."""


@contextlib.contextmanager
def logged(log: str, failure: str | None = None, fetches: bool = False) -> Iterator[None]:
    """Send all output of this process and its children to `log`, and report failures.

    A failure is said on the terminal too. Snakemake does not fill a script's log. Redirecting
    descriptors, not sys.stdout, also catches the output of CUDA, NCCL and the children.

    Args:
        failure: where to record a failure, for `snakemake partial`; an earlier record is removed.
        fetches: whether the job may ask a hub; in all others the hub's client stays offline.
    """
    terminal = os.dup(2)
    share_terminal(terminal)
    os.environ[TERMINAL] = f"/proc/{os.getpid()}/fd/{terminal}"
    os.environ.setdefault(LABEL_VARIABLE, "longwatt")
    try:
        stream = _open_log(Path(log), failure)
    except OSError as error:  # there is no log to say it in
        _report_failure(error, log, failure, terminal)
        raise SystemExit(1) from None
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    outlast_full_disk()
    os.environ.update({} if fetches else OFFLINE)
    try:
        yield
    except BaseException as error:
        traceback.print_exc()
        _report_failure(error, log, failure, terminal)
        raise SystemExit(1) from None
    if failure is not None:
        Path(failure + UNFINISHED).unlink(missing_ok=True)


def _open_log(log: Path, failure: str | None) -> FileIO:
    """Open a job's log, to go on with that of a failed or killed attempt.

    Snakemake removes a job's log before each attempt, so the log has a second name meanwhile. The
    record of an earlier failure is removed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if failure is None:
        return log.open("wb", buffering=0)
    kept = Path(failure + UNFINISHED)
    resumes = kept.exists()
    kept.parent.mkdir(parents=True, exist_ok=True)
    Path(failure).unlink(missing_ok=True)
    if not resumes:
        log.unlink(missing_ok=True)
        log.touch()
        link_or_copy(str(log), str(kept))  # a copy does not grow with the log
    elif not log.exists():
        link_or_copy(str(kept), str(log))
    return log.open("ab" if resumes else "wb", buffering=0)


def _report_failure(error: BaseException, log: str, failure: str | None, terminal: int) -> None:
    label, message = os.environ[LABEL_VARIABLE], str(error)
    if isinstance(error, KeyboardInterrupt | Stopped):  # no failure of the cell
        said = message if isinstance(error, Stopped) else "interrupted"
        saved = f"; {GOES_ON} from what is saved (of a training: its last checkpoint)"
        more = "" if GOES_ON in said else saved
        _tell(terminal, f"{label}: {said}{more}\n")
        return
    if not isinstance(error, JobError):
        if is_full(error):  # results may lie on a disk of their own, behind a link
            places = (Path(log).parent, Path.cwd(), Path("results"), Path(tempfile.gettempdir()))
            message = said_of_full(error, *places)
        message = f"{type(error).__name__}: {message}"
    _tell(terminal, f"{label}: FAILED: {message}\n{label}: see {log}\n")
    if failure is not None:
        record = {"message": message, "log": log, "wall_time_s": time.time(), "label": label}
        with contextlib.suppress(OSError):
            write_json(failure, record)


def _tell(terminal: int, text: str) -> None:
    with contextlib.suppress(OSError):  # it may be closed by now
        os.write(terminal, text.encode())
