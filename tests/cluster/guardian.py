"""Run a cluster's daemons; end them and all that they started when standard input closes.

Whoever starts it keeps the other end of that pipe; the kernel closes it with that process, kill -9
included. Slurm detaches every job from its daemons, so this process is told by the kernel to adopt
what they leave behind.

    python guardian.py FOLDER COMMANDS

The folder is removed at the end. The commands are a JSON list of command lines.
"""

import ctypes
import json
import shutil
import subprocess
import sys

import psutil

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def end_descendants() -> None:
    """Kill all below this process until none is left: a killed parent's children move up here."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=5)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        daemons = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL)
            for command in json.loads(sys.argv[2])
        ]
        print(*(daemon.pid for daemon in daemons), flush=True)
        sys.stdin.read()
    finally:
        end_descendants()
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
