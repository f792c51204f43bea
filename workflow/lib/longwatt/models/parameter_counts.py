"""Count the parameters of models without giving them memory, in a process of its own.

`counted` is light: torch builds the models on its meta device in `python -m` this module, so that
a plan never loads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from longwatt.models import adapters, load_family
from longwatt.models.configurations import without_kind
from longwatt.models.early_exit import EarlyExit
from longwatt.models.exits.encoder_config import MODEL_TYPE
from longwatt.processes import finding_package

DECODER_ONLY = "causal"  # the family of decoder-only models
ENCODER = "encoder."  # before the names of what lies below the exits
LONGEST_REASON = 200  # characters; some libraries list all they know


def counted(models: Sequence[Mapping[str, Any]]) -> list[int | str]:
    """Count the parameters of models in some seconds, torch being loaded elsewhere.

    Args:
        models: of each its `family`, `config` (as far as it is known, with its model_type; the rest
            is as transformers has it), `exits` of the study (None for a whole encoder, or another
            family), the number of `labels`, and, where only trained parameters are to be counted,
            the study's `lora`.

    Returns:
        For each model its parameters, or why it cannot be built.
    """
    asked = [json.dumps(model, sort_keys=True) for model in models]
    once = list(dict.fromkeys(asked))  # many differ only in how they are trained
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(
        command,
        env=finding_package(os.environ),
        input="\n".join(once),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:  # its own words are above
        return [f"the process that counts ended with {done.returncode}"] * len(asked)
    answers = dict(zip(once, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return [answers[model] for model in asked]


def count_parameters(
    family: str,
    config: Mapping[str, Any],
    exits: Mapping[str, Any] | None,
    labels: int,
    lora: Mapping[str, Any] | None = None,
) -> int:
    """Count the parameters of one model, of one with adapters those that are trained.

    Arguments are as in `counted`.
    """
    import torch

    with torch.device("meta"):
        built = _built(family, config, exits, labels)
    if lora is not None:
        return _trained(built, lora)
    return sum(parameter.numel() for parameter in built.parameters())


def _built(
    family: str, config: Mapping[str, Any], exits: Mapping[str, Any] | None, labels: int
) -> Any:
    if family == DECODER_ONLY:
        return _decoder(config)
    own: Any = load_family(family)
    if isinstance(own, EarlyExit):
        return _encoder(config, exits, labels)
    return _whole(own, config)


def _trained(built: Any, lora: Mapping[str, Any]) -> int:
    """Count the parameters of a model's adapters, and those of its classifiers at exits.

    An adapter of a linear layer has `rank` weights for each of its inputs and outputs, and DoRA one
    more for each output.
    """
    from longwatt.models.exits.model import EarlyExitModel

    rank, dora = int(lora["rank"]), int(lora.get("kind") == "dora")
    sides = _adapted(built, lora.get("target_modules"))
    low = sum(rank * (inputs + outputs) + dora * outputs for inputs, outputs in sides)
    if not isinstance(built, EarlyExitModel):
        return low
    named = built.named_parameters()
    above: int = sum(own.numel() for name, own in named if not name.startswith(ENCODER))
    return low + above


def _adapted(built: Any, targets: Sequence[str] | None) -> list[tuple[int, int]]:
    """List the two sides of the linear layers that have adapters, as `adapters.adapt` puts them.

    Args:
        built: the model.
        targets: ends of their names; None for all but the output layer and classifiers at exits.

    Raises:
        ModelError: a target matches none.
    """
    from transformers.pytorch_utils import Conv1D

    from longwatt.models.exits.model import EarlyExitModel

    whole = EarlyExit.trained_whole if isinstance(built, EarlyExitModel) else ()
    layers = adapters.linear_layers(built, whole)
    found = []
    for name in adapters.chosen_layers(list(layers), targets):
        first, second = layers[name].weight.shape
        found.append((first, second) if isinstance(layers[name], Conv1D) else (second, first))
    return found


def _decoder(config: Mapping[str, Any]) -> Any:
    """Build a decoder-only model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    complete = _completed(AutoConfig.for_model(config["model_type"]), config)
    return AutoModelForCausalLM.from_config(complete)


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
