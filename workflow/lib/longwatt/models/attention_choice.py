"""Let a model compute attention by the path of transformers that its entry names.

The path that a study asks for is in use, or an error says why it cannot be. transformers itself
would go on with another path in some cases, and with code from the network in others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longwatt.models.errors import ModelError
from longwatt.models.family import EAGER, FLASH, FLEX, SDPA

if TYPE_CHECKING:
    import torch

# What transformers calls them, and by which attribute a model's class says that it has one.
NAMES = {SDPA: "sdpa", EAGER: "eager", FLASH: "flash_attention_2", FLEX: "flex_attention"}
SUPPORT = {SDPA: "_supports_sdpa", FLASH: "_supports_flash_attn", FLEX: "_supports_flex_attn"}
LATER = (FLASH, FLEX)  # in use from `choose_on`, since a model is built on the CPU
HALF_PRECISIONS = ("bf16", "fp16")


def choose(model: Any, path: str) -> None:
    """Let a model that was just built attend by a path of transformers.

    Args:
        model: of transformers.
        path: a key of NAMES; any other leaves the model as it is.

    Raises:
        ModelError: its class does not have that path.
    """
    if path not in NAMES:
        return
    own = core(model)
    if path in SUPPORT and not getattr(own, SUPPORT[path], False):
        others = [name for name in NAMES if getattr(own, SUPPORT.get(name, ""), name == EAGER)]
        has = f"has only {' and '.join(others)}"
        raise ModelError(
            f"`attention: {path}` is asked for, or the family's default, but "
            f"{type(own).__name__} of transformers {has}; choose one of these"
        )
    if path not in LATER:
        _set(own, path)


def choose_on(model: Any, path: str, device: torch.device, precision: str) -> None:
    """Let a model on its device attend by a path of transformers, as `choose`.

    Args:
        model: of transformers, or peft's around it.
        path: a key of NAMES; any other leaves the model as it is.
        precision: fp32, tf32, bf16 or fp16.

    Raises:
        ModelError: the device, its precision or a package stands in the way.
    """
    if path not in LATER:
        return
    if (reason := _missing(path, device, precision)) is not None:
        raise _refusal(path, reason)
    _set(core(model), path)


def core(model: Any) -> Any:
    """Return the model of transformers itself, without what data parallelism and peft put around.

    Adapters that peft put into it stay.
    """
    own = getattr(model, "module", model)
    return own.get_base_model() if hasattr(own, "get_base_model") else own


def _refusal(path: str, reason: str) -> ModelError:
    return ModelError(f"`attention: {path}` is asked for, but {reason}; choose another")


def _missing(path: str, device: torch.device, precision: str) -> str | None:
    """Say what a path lacks here, or return None."""
    if path == FLEX:
        cannot = "torch's flex_attention has no backward pass on a CPU"
        return cannot if device.type == "cpu" else None
    if device.type != "cuda":
        return f"flash attention needs a GPU, and this is a {device.type.upper()}"
    if precision not in HALF_PRECISIONS:
        return (
            f"flash attention computes in bf16 or fp16, and the budget's precision is {precision}"
        )
    from transformers.utils import is_flash_attn_2_available

    # Without it transformers may fetch a kernel from its hub.
    return None if is_flash_attn_2_available() else "the package flash_attn is not installed"


def _set(own: Any, path: str) -> None:
    """Set a path, or raise a ModelError where transformers does not."""
    name = NAMES[path]
    if own.config._attn_implementation == name:
        return
    try:
        own.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        said = str(error).partition(". ")[0]
        raise _refusal(path, f"transformers refuses: {said}") from None
    if own.config._attn_implementation != name:
        raise _refusal(path, f"{type(own).__name__} of transformers cannot change its attention")
