"""Adapters of low rank on a model's linear layers, by the library peft.

A model with adapters stays of its own class: adapted layers take the places of its linear ones, so
that whatever calls its parts or reads its weights still does. Its own weights are frozen, except
those that a family trains whole.

Three forms are kept. While a cell trains, `keep_trained` keeps what is trained and nothing else. A
finished cell has adapters that peft and longwatt load beside their base (`write_adapters`), or a
whole model to which they were added (`merge_adapters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longwatt.files import read_object
from longwatt.models.configurations import ADAPTER_FILE
from longwatt.models.errors import ModelError
from longwatt.models.family import Config, is_to_adapt
from longwatt.provenance.stamps import write_json
from longwatt.spelling import nearest

if TYPE_CHECKING:
    from torch import Tensor

SAVED_WEIGHTS = "adapter_model.safetensors"  # by peft
BASE = "base.json"  # beside adapters: the checkpoint they belong to
TRAINED_PART = "trained.safetensors"  # what is trained of a model, while it is
ADAPTER_NAME = "default"  # peft's own
PEFT_PREFIX = "base_model.model."  # of the names in peft's files
UNADAPTED = "full"  # the adaptation of a model without adapters


def adaptation(lora: Mapping[str, Any] | None) -> str:
    """Name how a model is adapted, such as `full` or `lora r16`."""
    return f"{lora['kind']} r{lora['rank']}" if lora else UNADAPTED


def is_adapted(model: Any) -> bool:
    """Check whether a model has adapters."""
    return hasattr(model, "peft_config")


def adapt(model: Any, entry: Config, whole: Sequence[str] = ()) -> None:
    """Give a built model the adapters of its entry, if there are any.

    Args:
        model: on the CPU, with its weights.
        entry: has `lora` for new adapters (kind, rank, alpha, dropout, target_modules), or
            `adapters`, the folder of trained ones.
        whole: parts of the model that are trained whole and have no adapters.

    Raises:
        ModelError: target modules match no layer, or trained adapters are of another model.
    """
    if entry.get("lora"):
        _attach(model, entry["lora"], whole)
    elif entry.get("adapters"):
        _load(model, Path(entry["adapters"]))


def check_adapted(model: Any, entry: Config) -> None:
    """Refuse a model whose family leaves the adapters of its entry out.

    Raises:
        ModelError: says what its `build` lacks.
    """
    if is_to_adapt(entry) and not is_adapted(model):
        raise ModelError(
            "this model's family does not take `lora`: its `build` must call "
            "longwatt.models.adapters.adapt"
        )


def _attach(model: Any, lora: Mapping[str, Any], whole: Sequence[str]) -> None:
    """Put new adapters into a model and freeze the rest, but for parts trained whole."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    layers = linear_layers(model, whole)
    chosen = chosen_layers(list(layers), lora["target_modules"])
    config = LoraConfig(
        task_type=_task(model),
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=_shortly(model, chosen),
        use_dora=lora["kind"] == "dora",
        use_rslora=lora["kind"] == "rslora",
        fan_in_fan_out=all(isinstance(layers[name], Conv1D) for name in chosen),
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:  # peft knows layers that some kinds of models never call
        raise ModelError(
            f"lora: peft puts no adapters of the kind {lora['kind']} on all of "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in chosen}))} ({error}); name "
            "others in lora.target_modules, or take another kind"
        ) from None
    for part in whole:
        model.get_submodule(part).requires_grad_(True)


def linear_layers(model: Any, whole: Sequence[str] = ()) -> dict[str, Any]:
    """Return the linear layers that adapters can go on, by name: all but the output's.

    Those of parts trained whole are left out. So are layers of torch's attention module, which
    reads their weights and never calls them.
    """
    output = model.get_output_embeddings()
    return {
        name: part
        for name, part in model.named_modules()
        if _is_linear(part)
        and part is not output
        and not any(f"{name}.".startswith(f"{one}.") for one in whole)
    }


def _is_linear(part: Any) -> bool:
    """Check whether a part maps linearly when it is called.

    Falcon has a class of its own for that, while routers of mixtures are linear layers that return
    more.
    """
    import torch
    from torch import nn
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
    from transformers.pytorch_utils import Conv1D

    if type(part) in (nn.Linear, Conv1D):
        return True
    if not isinstance(part, nn.Linear) or isinstance(part, NonDynamicallyQuantizableLinear):
        return False
    ones = part.weight.new_ones(1, part.in_features)
    with torch.no_grad():
        found, meant = part(ones), nn.functional.linear(ones, part.weight, part.bias)
    if not torch.is_tensor(found) or found.shape != meant.shape:
        return False
    return found.is_meta or torch.allclose(found, meant)


def chosen_layers(layers: Sequence[str], targets: Sequence[str] | None) -> list[str]:
    """Choose layers by the ends of their names, all without targets.

    Raises:
        ModelError: there are none, or a target matches none.
    """
    if not layers:
        raise ModelError(
            "lora: the model has no linear layer but the output's, so there is nothing to put "
            "adapters on; leave `lora` out"
        )
    if targets is None:
        return list(layers)
    for target in targets:
        if not any(_ends(name, target) for name in layers):
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise ModelError(
                f"lora.target_modules: {target!r} matches no linear layer of the model"
                f"{nearest(target, known)}; there are {', '.join(known)} (the output's layer has "
                "no adapter)"
            )
    return [name for name in layers if any(_ends(name, target) for target in targets)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def _shortly(model: Any, chosen: Sequence[str]) -> list[str]:
    """Name layers by the last parts of their names if unambiguous, else in full."""
    ends = {name.rpartition(".")[2] for name in chosen}
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in ends}
    return sorted(ends if meant == set(chosen) else chosen)


def _task(model: Any) -> str | None:
    """Name a model's task for peft, whose classes find the model by it."""
    if not model.can_generate():
        return None
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def parameter_counts(model: Any) -> dict[str, int]:
    """Count `parameters` without adapters, and those that are trained with them."""
    named = list(model.named_parameters())
    return {
        "parameters": sum(p.numel() for name, p in named if ".lora_" not in name),
        "trainable_parameters": sum(p.numel() for _, p in named if p.requires_grad),
    }


def keep_trained(model: Any, folder: Path) -> None:
    """Write what is trained of a model, and its buffers, into a folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted = trained | {name for name, _ in model.named_buffers()}
    held = model.state_dict()
    save_file(
        _written({name: held[name] for name in held if name in wanted}), folder / TRAINED_PART
    )


def take_trained(model: Any, folder: Path) -> None:
    """Read again what `keep_trained` wrote."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / TRAINED_PART), strict=False)


def write_adapters(model: Any, folder: Path, base: Mapping[str, Any]) -> None:
    """Write a model's adapters as peft has them, with the model's configuration and its base.

    Args:
        model: with adapters, its weights those to be kept.
        folder: to write into.
        base: the facts of `base_facts`.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # Embeddings are never adapted. To find that out, peft would ask the hub.
    held = get_peft_model_state_dict(model, save_embedding_layers=False)
    named = {f"{PEFT_PREFIX}{name}": tensor for name, tensor in _written(held).items()}
    save_file(named, folder / SAVED_WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config[ADAPTER_NAME]
    config.base_model_name_or_path = base.get("repository", base["checkpoint"])
    config.revision = base.get("revision")
    config.inference_mode = True
    config.save_pretrained(str(folder))
    # From sets, whose order is another in every process.
    said = read_object(folder / ADAPTER_FILE)
    write_json(folder / ADAPTER_FILE, {**said, "target_modules": sorted(said["target_modules"])})
    # A base may name a class without its output layer, as BART's does.
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    write_json(folder / BASE, dict(base))


def _written(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def base_facts(report: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return what adapters record of their base: name, files and origin.

    Args:
        report: the base's model.json.
        checkpoint: its folder.
    """
    origin = {key: report["origin"].get(key) for key in ("repository", "revision")}
    known = {key: value for key, value in origin.items() if value}
    return {"checkpoint": checkpoint.name, "sha256": report["sha256"], **known}


def _load(model: Any, folder: Path) -> None:
    """Put trained adapters into their base."""
    from peft import (
        LoraConfig,
        get_peft_model_state_dict,
        inject_adapter_in_model,
        set_peft_model_state_dict,
    )
    from safetensors.torch import load_file

    inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), model)
    held = load_file(folder / SAVED_WEIGHTS)
    state = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in held.items()}
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    if differing := sorted(wanted.keys() ^ state.keys()):
        raise ModelError(
            f"{folder} holds adapters of another model: {differing[0]} is in one of the two alone"
        )
    set_peft_model_state_dict(model, state)


def merge_adapters(model: Any) -> None:
    """Add adapters to the weights of their layers, which take their places again."""
    from peft.tuners.lora import LoraLayer

    adapted = {name: part for name, part in model.named_modules() if isinstance(part, LoraLayer)}
    for part in adapted.values():
        part.merge()
    for name, part in adapted.items():
        parent, _, child = name.rpartition(".")
        if parent in adapted:  # peft puts one around another where a layer has several weights
            continue
        while isinstance(part, LoraLayer):
            part = part.get_base_layer()
        setattr(model.get_submodule(parent), child, part)
    del model.peft_config
