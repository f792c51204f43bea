"""Find misspelt keys in the `config` of models, in a process of its own.

`MisspeltKeys` is light: transformers is loaded in `python -m` this module, beside other checks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from longwatt.models import load_family
from longwatt.models.configurations import check_keys, without_kind
from longwatt.models.errors import ModelError


class MisspeltKeys:
    """A process that compares models' settings with the keys that their kinds have.

    Args:
        models: by name, each with its `family`, the `given` settings of the study, and the
            `model_type` of its checkpoint, empty if that is not known.
    """

    def __init__(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        asked = {name: one for name, one in models.items() if one["given"]}
        self._process = _start(asked) if asked else None

    def problems(self) -> dict[str, str]:
        """Wait for the answer: by model, what is wrong."""
        if self._process is None:
            return {}
        said, _ = self._process.communicate()
        found: dict[str, str] = json.loads(said) if self._process.returncode == 0 else {}
        return found


def _start(asked: Mapping[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None, "it was asked for"
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    return process


def problem_of(family: str, given: Mapping[str, Any], model_type: str) -> str | None:
    """Name a key of a model's settings that its kind lacks, if any."""
    try:
        check_keys(without_kind(given), _default(family, str(given.get("model_type", model_type))))
    except ModelError as error:
        return str(error)
    except (KeyError, ValueError, AttributeError):
        return None  # an unknown kind: the family itself says which are known
    return None


def _default(family: str, kind: str) -> Any:
    """Make the configuration that a kind of model has by itself."""
    import transformers

    named = getattr(transformers, getattr(load_family(family), "config_class", "AutoConfig"))
    return named.for_model(kind) if hasattr(named, "for_model") else named()


if __name__ == "__main__":
    told = {
        name: problem_of(one["family"], one["given"], one["model_type"])
        for name, one in json.loads(sys.stdin.readline()).items()
    }
    print(json.dumps({name: problem for name, problem in told.items() if problem}))
