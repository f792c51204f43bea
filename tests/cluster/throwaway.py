"""A throw-away Slurm of one node with eight stand-in GPUs, on loopback, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import wait_for

GPUS = 8
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue")
MUNGE_FILES = ("key-file", "socket", "pid-file", "log-file", "seed-file")
GUARDIAN = Path(__file__).with_name("guardian.py")

SLURM_CONF = """
ClusterName=throwaway
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=5
NodeName=localhost NodeAddr=127.0.0.1 CPUs=64 RealMemory=1000000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# The jobs' own srun starts with all of Slurm's variables removed, so it must be told again where
# its Slurm is.
SHIM = """#!/bin/sh
export SLURM_CONF={conf}
printf '%s\\n' "$*" >> {log}
exec {tool} "$@"
"""


def unavailable() -> str | None:
    """Why no throw-away Slurm can run here; None if one can."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool, path=search_path())]
    if lacking:
        return f"no Slurm here: {', '.join(lacking)} not found (Debian: slurm-wlm and munge)"
    if os.getuid() != 0:
        return "a throw-away Slurm with stand-in GPUs needs root (mknod)"
    return None


def search_path() -> str:
    """PATH with the folders of daemons, which not every user's PATH has."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


def free_ports(count: int) -> list[int]:
    """Free ports, all different, of the loopback interface."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Slurm:
    """A running throw-away Slurm; `stop` ends it and everything it started."""

    folder: Path
    guardian: subprocess.Popen[str] | None = None

    @classmethod
    def start(cls) -> Slurm:
        """Start one.

        Raises:
            OSError: stand-in devices cannot be made here (a container without the right to mknod).
        """
        # Not pytest's own folder: the path of munge's socket must stay below 108 characters.
        slurm = cls(Path(tempfile.mkdtemp(prefix="slurm-")))
        try:
            slurm.configure()
            slurm.launch()
        except BaseException:
            slurm.stop()
            raise
        return slurm

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def configure(self) -> None:
        """Write all files that the daemons need."""
        self.folder.chmod(0o755)  # munge wants its socket to be reachable
        for name in ("state", "spool", "dev", "bin"):
            (self.folder / name).mkdir()
        controller_port, node_port = free_ports(2)
        ports = {"controller_port": controller_port, "node_port": node_port}
        self.conf.write_text(SLURM_CONF.format(folder=self.folder, gpus=GPUS, **ports))
        # With plain files, or a count alone, Slurm would schedule but never set
        # CUDA_VISIBLE_DEVICES.
        for number in range(GPUS):
            os.mknod(self.folder / f"dev/nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        devices = f"{self.folder}/dev/nvidia[0-{GPUS - 1}]"
        gres = f"AutoDetect=off\nNodeName=localhost Name=gpu File={devices}\n"
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        for tool in ("sbatch", "srun"):
            self.shim(tool)

    def shim(self, tool: str) -> None:
        """Put a recorder before one of Slurm's commands."""
        path = self.folder / "bin" / tool
        path.write_text(
            SHIM.format(conf=self.conf, log=self.folder / f"{tool}.calls", tool=shutil.which(tool))
        )
        path.chmod(0o755)

    def launch(self) -> None:
        """Start the daemons and wait until the node is idle."""
        files = [f"--{n}={self.folder}/munge.{n.split('-')[0]}" for n in MUNGE_FILES]
        munge = ["--foreground", "--force", *files]
        commands = [
            ["munged", *munge],
            ["slurmctld", "-D", "-c", "-f", str(self.conf)],
            ["slurmd", "-D", "-c", "-N", "localhost", "-f", str(self.conf)],
        ]
        with (self.folder / "daemons.log").open("w") as log:
            command = [sys.executable, str(GUARDIAN), str(self.folder), json.dumps(commands)]
            how = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log, "text": True}
            env = {**os.environ, "PATH": search_path()}
            self.guardian = subprocess.Popen(command, env=env, **how)
        wait_for(self.idle, f"an idle node; see {self.folder}", 60)

    def idle(self) -> bool:
        """Whether the node takes jobs."""
        return self.run("sinfo", "-h", "-o", "%T") == "idle"

    def run(self, *command: str) -> str:
        """What one of Slurm's commands prints; empty if it fails."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        return done.stdout.strip()

    def environment(self) -> dict[str, str]:
        """What a client of this Slurm needs."""
        found = {**os.environ, "SLURM_CONF": str(self.conf)}
        return {**found, "PATH": f"{self.folder}/bin{os.pathsep}{search_path()}"}

    def submissions(self) -> list[str]:
        """The options of every sbatch so far, without the command that the job runs."""
        lines = (self.folder / "sbatch.calls").read_text().splitlines()
        return [line.split(" --wrap=")[0] for line in lines]

    def stop(self) -> None:
        """End the daemons and all jobs, and remove the folder."""
        if self.guardian is not None and self.guardian.stdin is not None:
            self.guardian.stdin.close()
            self.guardian.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)
