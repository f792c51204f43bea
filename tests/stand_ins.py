"""Stand-ins for conda and Apptainer, which need what a test machine lacks.

Each is a program on PATH that does what Snakemake asks of the real one with this machine's own
packages, and writes down what it was asked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Packages of this environment, without its editable installation of longwatt.
PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))

CONDA = """#!{python}
import json, shutil, subprocess, sys
from pathlib import Path

said = sys.argv[1:]
here = Path(__file__).resolve().parent
with (here / "asked").open("a") as asked:
    print(json.dumps(said), file=asked)
if said == ["--version"]:
    print("conda 25.1.0")
elif said == ["info", "--json"]:
    print(json.dumps({{"conda_prefix": str(here.parent), "platform": "linux-64"}}))
elif said[:2] == ["config", "--get"]:
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif said[:2] == ["env", "create"]:
    options = dict(zip(said, said[1:]))
    shutil.copy(options["--file"], here / "environment.yaml")
    prefix = Path(options["--prefix"])
    subprocess.run([{python!r}, "-m", "venv", "--without-pip", prefix], check=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text({packages!r} + "\\n")
elif said[:1] != ["clean"]:
    sys.exit(f"the stand-in for conda does not know {{said}}")
"""

# As conda's: sourced with the environment's folder.
ACTIVATE = """export PATH="$1/bin:$PATH" CONDA_PREFIX="$1"
printf '%s\\n' "$1" >> '{activated}'
"""

APPTAINER = """#!{python}
import json, os, sys
from pathlib import Path

said = sys.argv[1:]
here = Path(__file__).resolve().parent
with (here / "asked").open("a") as asked:
    print(json.dumps(said), file=asked)
if said == ["--version"]:
    print("apptainer version 1.3.6")
    sys.exit()
if said[:2] == ["pull", "--name"]:
    Path(said[2]).touch()
    sys.exit()
at = said.index("exec") + 1
home, binds = None, os.environ.get("APPTAINER_BIND", "").split(",")
while said[at].startswith("--"):
    option, at = said[at], at + 1
    if option in ("--home", "--bind", "--pwd"):
        value, at = said[at], at + 1
        home = value if option == "--home" else home
        binds += [value] if option == "--bind" else []
    elif option != "--nv":
        sys.exit(f"the stand-in for apptainer does not know {{option}}")
image, command = said[at], said[at + 1 :]
if not Path(image).is_file():
    sys.exit(f"could not open image {{image}}")
# The image holds Python and its packages; of the machine it sees what Snakemake binds.
system = ["/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc", "/proc", "/sys", "/dev"]
packages = [sys.base_prefix, {prefix!r}]
shown = [*system, *packages, *filter(None, binds), home]
root = Path({root!r})
lines = ["set -e", f"mount -t tmpfs none {{root}}"]
for one in shown:
    source, _, target = one.partition(":")
    target = root / (target or source).lstrip("/")
    if Path(source).exists():
        lines.append(f"mkdir -p '{{target}}' && mount --rbind '{{source}}' '{{target}}'")
lines.append(f"mkdir -p -m 1777 {{root}}/tmp")
lines.append('exec chroot {root} /bin/sh -c \\'cd "$0" && exec "$@"\\' "$@"')
os.environ["PATH"] = {prefix!r} + "/bin:/usr/bin:/bin:/usr/sbin:/sbin"
os.execvp("unshare", ["unshare", "--mount", "sh", "-c", "\\n".join(lines), "sh", home, *command])
"""


@dataclass(frozen=True)
class Programs:
    """A folder of stand-ins, to be put first on PATH."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "bin"

    def asked(self) -> list[str]:
        """Return what was asked of the program, one JSON list a call."""
        return (self.path / "asked").read_text().splitlines()

    def write(self, name: str, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)


def conda(folder: Path) -> Programs:
    """Write a conda that makes a virtual environment which sees this one's packages."""
    programs = Programs(folder)
    programs.write("conda", CONDA.format(python=sys.executable, packages=PACKAGES))
    programs.write("activate", ACTIVATE.format(activated=folder / "activated"))
    return programs


def can_show_a_part() -> bool:
    """Check whether this user may hide most of the machine from a process, as a container does."""
    if not shutil.which("unshare") or not shutil.which("chroot"):
        return False
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
    return tried.returncode == 0


def apptainer(folder: Path) -> Programs:
    """Write an Apptainer whose image is this machine's Python, and which hides all other files."""
    programs = Programs(folder)
    (folder / "root").mkdir(parents=True)
    names = {"python": sys.executable, "prefix": sys.prefix, "root": str(folder / "root")}
    programs.write("apptainer", APPTAINER.format(**names))
    return programs
