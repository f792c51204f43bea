"""Convert a GGUF file, as llama.cpp uses it, to a checkpoint in safetensors.

GGUF files mostly hold quantised weights. They are read as whole float32 numbers once, which can be
trained; what quantisation lost stays lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longwatt.models.errors import ModelError


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's causal model into `folder`: float32 safetensors and its configuration.

    Raises:
        ModelError: the file cannot be read as a causal model, or lacks weights of it.
    """
    read = _read(file)
    plain = _without_quantisation(read)
    plain.load_state_dict(read.state_dict(), strict=True, assign=True)
    plain.save_pretrained(folder)


def _read(file: Path) -> Any:
    """Read the model of a file with all its weights as float32."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        read, found = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a damaged or unknown file makes of it
        said = str(error).partition("\n")[0]
        why = f"{type(error).__name__}: {said}"
        raise ModelError(f"{file} cannot be read as a causal language model ({why})") from None
    if lacking := sorted(found["missing_keys"]):
        raise ModelError(f"{file} lacks {len(lacking)} weights of its model, first {lacking[0]}")
    return read


def _without_quantisation(read: Any) -> Any:
    """Make a model of the same configuration that can be saved, still without weights.

    Transformers refuses to save a model that it read from quantised weights.
    """
    import torch

    said = read.config.to_dict()
    said.pop("quantization_config", None)
    said.pop("_name_or_path", None)
    with torch.device("meta"):
        plain = type(read)(type(read.config).from_dict(said))
    plain.generation_config = read.generation_config
    return plain
