"""Add trained adapters to their base: a whole model, that needs neither.

longwatt models merge MODEL BASE OUT
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longwatt import command_line
from longwatt.files import read_object
from longwatt.hub.checkpoints import ADAPTER_CONFIG, SENTENCEPIECE, TOKENIZER_FILES, WORDPIECE
from longwatt.models.adapters import BASE, adapt, merge_adapters
from longwatt.models.errors import ModelError
from longwatt.provenance.artefacts import differing_files


def merge_folders(model: Path, base: Path, out: Path) -> None:
    """Write the whole model that adapters make of their base, with the adapters' tokenizer.

    Args:
        model: the folder of adapters that a cell has kept.
        base: the checkpoint they were trained beside, such as resources/models/KEY.
        out: the folder to write, which must not be there.

    Raises:
        ModelError: a folder is no such thing, or the base is another than the adapters'.
    """
    if not (model / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{model} holds no adapters: it has no {ADAPTER_CONFIG}")
    if out.exists():
        raise ModelError(f"{out} is there already; name a folder that is not")
    named = read_object(model / BASE)
    wrong = differing_files(base, named.get("sha256", {}))
    if wrong:
        name, problem = next(iter(wrong.items()))
        raise ModelError(
            f"{base / name} is not the file that the adapters were trained beside ({problem}); "
            f"{model / BASE} names their base: {named.get('checkpoint')}"
        )
    built = _built(model, base)
    adapt(built, {"adapters": str(model)})
    merge_adapters(built)
    built.save_pretrained(out)
    for name in (*TOKENIZER_FILES, *SENTENCEPIECE, WORDPIECE):
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)


def _built(model: Path, base: Path) -> Any:
    """Build the base by the configuration that lies beside the adapters."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(str(model), local_files_only=True)
    kind = getattr(transformers, config.architectures[0])
    given = {"config": config, "local_files_only": True, "use_safetensors": True}
    return kind.from_pretrained(str(base), dtype="float32", **given)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog="longwatt models", description=__doc__)
    verbs = made.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("merge", help="add trained adapters to their base").add_argument
    add("model", type=Path, help="a cell's model folder with adapters")
    add("base", type=Path, help="the checkpoint's folder, such as resources/models/KEY")
    add("out", type=Path, help="the folder to write")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = parser().parse_args(arguments)
    try:
        merge_folders(given.model, given.base, given.out)
    except (ModelError, OSError) as error:
        print(f"longwatt.models: {error}", file=sys.stderr)
        return 1
    print(f"{given.out} holds the merged model")
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
