"""Count the parameters of models without giving them memory, in a process of its own.

`counted` is light: torch builds the models on its meta device in `python -m` this module, so that
a plan never loads it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from longwatt.models import load_family
from longwatt.models.configurations import without_kind
from longwatt.models.early_exit import EarlyExit
from longwatt.models.exits.encoder_config import MODEL_TYPE

LONGEST_REASON = 200  # characters; some libraries list all they know


def counted(models: Sequence[Mapping[str, Any]]) -> list[int | str]:
    """Count the parameters of models in some seconds, torch being loaded elsewhere.

    Args:
        models: of each its `family`, `config` (as far as it is known, with its model_type; the rest
            is as transformers has it), `exits` of the study (None for a whole encoder, or another
            family) and the number of `labels`.

    Returns:
        For each model its parameters, or why it cannot be built.
    """
    asked = [json.dumps(model, sort_keys=True) for model in models]
    once = list(dict.fromkeys(asked))  # many differ only in how they are trained
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input="\n".join(once), stdout=subprocess.PIPE, text=True)
    if done.returncode:  # its own words are above
        return [f"the process that counts ended with {done.returncode}"] * len(asked)
    answers = dict(zip(once, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return [answers[model] for model in asked]


def count_parameters(
    family: str, config: Mapping[str, Any], exits: Mapping[str, Any] | None, labels: int
) -> int:
    """Count the parameters of one model. Arguments are as in `counted`."""
    import torch

    own: Any = load_family(family)
    with torch.device("meta"):
        is_encoder = isinstance(own, EarlyExit)
        built = _encoder(config, exits, labels) if is_encoder else _whole(own, config)
    return sum(parameter.numel() for parameter in built.parameters())


def _whole(family: Any, config: Mapping[str, Any]) -> Any:
    """Build an encoder-decoder."""
    import transformers

    named = getattr(transformers, family.config_class)
    build = getattr(transformers, family.model_class)
    default = named.for_model(config["model_type"]) if hasattr(named, "for_model") else named()
    complete = _completed(default, config)
    return build.from_config(complete) if hasattr(build, "from_config") else build(complete)


def _encoder(config: Mapping[str, Any], exits: Mapping[str, Any] | None, labels: int) -> Any:
    """Build an encoder up to its last exit with its classifiers, or whole without exits."""
    from transformers import AutoConfig, AutoModel

    from longwatt.models.exits.model import EarlyExitConfig, EarlyExitModel

    if config["model_type"] == MODEL_TYPE:
        return EarlyExitModel(EarlyExitConfig.from_dict(dict(config)))
    encoder = _completed(AutoConfig.for_model(config["model_type"]), config)
    if exits is None:
        return AutoModel.from_config(encoder)
    names = [str(label) for label in range(labels)]
    given = {key: exits[key] for key in ("layers", "layer_weights") if key in exits}
    return EarlyExitModel(EarlyExitConfig(encoder=encoder.to_dict(), labels=names, **given))


def _completed(default: Any, config: Mapping[str, Any]) -> Any:
    """Put what is known into a configuration, as far as its kind has the keys."""
    known = {key: value for key, value in without_kind(config).items() if hasattr(default, key)}
    return type(default).from_dict(known)


def count_or_reason(model: Mapping[str, Any]) -> int | str:
    """Count the parameters of one model, or say why it cannot be built."""
    try:
        return count_parameters(**model)
    except Exception as error:  # whatever a library says of a configuration
        return f"{type(error).__name__}: {error}"[:LONGEST_REASON]


if __name__ == "__main__":
    print(json.dumps([count_or_reason(json.loads(line)) for line in sys.stdin]))
