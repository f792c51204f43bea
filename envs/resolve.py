"""Lock the packages of a study, or check that every environment can be had (make lock, check-envs).

    python envs/resolve.py lock     write envs/lock.txt
    python envs/resolve.py check    ask the package index; nothing is installed

Both ask the package index through uv (envs/requirements-envs.txt).
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
LOCK = ENVS / "lock.txt"
CONSTRAINTS = ["--constraints", str(ENVS / "constraints.txt")]
FIX_RELEASE = 5
CLASSIFIER = "Programming Language :: Python :: "
HEADER = """\
# Every package of a study with the SHA-256 of its files, for Linux on x86_64 and aarch64. It pins
# what requirements.txt, requirements-processors.txt and constraints.txt pin, and the libraries of
# CUDA that torch brings. No address of a package index is in it, as one would be in a uv.lock.
# Made by `make lock`. To install it: docs/how-to/environments.md.
"""
# The file says so above, once. uv says it of every package.
EVERYWHERE = (
    " ; (platform_machine == 'aarch64' or platform_machine == 'x86_64')"
    " and sys_platform == 'linux'",
    " and ((platform_machine == 'aarch64' and sys_platform == 'linux')"
    " or (platform_machine == 'x86_64' and sys_platform == 'linux'))",
)


def pythons() -> list[str]:
    """Return the versions of Python that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = [one.removeprefix(CLASSIFIER) for one in project["classifiers"]]
    return [one for one in said if one.startswith("3.")]


def compiled(*arguments: str | Path, text: str | None = None) -> str:
    """Resolve requirements with uv.

    Raises:
        SystemExit: they cannot be resolved; uv has said why.
    """
    command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--no-header"]
    command += ["--no-annotate", "--no-emit-index-url", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=text, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: cannot be resolved")
    return done.stdout


def locked() -> str:
    """Return the text of the lock file."""
    how = ["--universal", "--python-version", pythons()[0], "--generate-hashes"]
    runtime = compiled(*how, *CONSTRAINTS, ENVS / "requirements.txt")
    data = compiled(*how, "--no-deps", ENVS / "requirements-processors.txt")
    text = runtime + data
    for marker in EVERYWHERE:
        text = text.replace(marker, "")
    return HEADER + text


def versions(lock: str) -> list[str]:
    """Return the packages of a lock without their hashes, which grow with every new wheel."""
    return [line for line in lock.splitlines() if not line.startswith((" ", "#"))]


def check() -> None:
    """Resolve every environment, and compare the lock with the pins."""
    runtime, tools = ENVS / "requirements.txt", ENVS / "requirements-dev.txt"
    how = [*CONSTRAINTS, "--python-platform", "linux", "--python-version"]
    for python in pythons():
        compiled(*how, python, runtime)
        # Tools may ask for a fix release: those of the documentation for 3.11.5.
        compiled(*how, f"{python}.{FIX_RELEASE}", runtime, tools)
        print(f"Python {python}: resolves")
    conda = yaml.safe_load((ENVS / "longwatt.yaml").read_text())["dependencies"]
    python, pins = conda[0].split("=")[1], "\n".join(conda[-1]["pip"])
    compiled("--python-version", python, "--python-platform", "linux", "-", text=pins)
    print("envs/longwatt.yaml: what pip installs resolves; what conda installs was not asked for")
    if versions(locked()) != versions(LOCK.read_text()):
        raise SystemExit("envs/lock.txt: not what the pins resolve to now; run `make lock`")
    print("envs/lock.txt: what the pins resolve to")


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        LOCK.write_text(locked())
    elif sys.argv[1:] == ["check"]:
        check()
    else:
        raise SystemExit(__doc__)
