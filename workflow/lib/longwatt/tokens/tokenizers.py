"""Write a dataset's tokenizer: trained on it, or taken from a checkpoint or the hub.

It stands apart from `longwatt.tokens.tokenize`, which the code digest of every cell includes, to
keep hubs and vocabularies out of that digest.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longwatt.datasets.records import read_records
from longwatt.files import sha256, whole_file, whole_path
from longwatt.hub import checkpoints, client
from longwatt.provenance.artefacts import digests
from longwatt.provenance.source_files import SourceChanged, recorded_facts
from longwatt.tokens import vocabulary
from longwatt.tokens.special_tokens import Tokenizer, TokenizerError, load_tokenizer
from longwatt.tokens.tokenize import check_records

SPECIAL_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
# Texts, and how much of each, that a tokenizer made here is checked on.
COMPARED_TEXTS, COMPARED_CHARACTERS = 200, 2_000


def make_tokenizer(settings: Mapping[str, Any], records: Path, folder: Path) -> dict[str, Any]:
    """Write a fast tokenizer: trained on the training split, or a checkpoint's own.

    Args:
        settings: `kind`, and for a checkpoint the `path` of its folder, or the `package` that has
            it with the `folder` inside, or its `repository` and `revision`.
        records: of the dataset that it will tokenize.
        folder: where to write.

    Returns:
        Facts for its report: where it comes from, how it was checked, and its files' digests.

    Raises:
        TokenizerError: a checkpoint folder has neither tokenizer.json nor one readable GGUF file,
            or the package is not installed.
        VocabularyError: the tokenizer made from a checkpoint's vocabulary differs from it.
        HubError: a repository's files are not available.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts, repository = {}, checkpoints.repository_of(settings)
    if repository is None and settings["kind"] == "checkpoint":
        facts = _copy_tokenizer(settings, folder)
    else:
        check_records(records)
        if repository is None:
            _save(_train_byte_level_bpe(settings, records), folder)
        else:
            facts = _tokenizer_from_hub(repository, records, folder)
    made = filter(Path.is_file, map(folder.joinpath, checkpoints.TOKENIZER_FILES))
    return {**facts, "sha256": digests(folder, made)}


def _train_byte_level_bpe(settings: Mapping[str, Any], records: Path) -> Tokenizer:
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    rows = (record for split, record in read_records(records) if split == "train")
    texts = (text for record in rows for text in (record.input, *record.references))
    bpe = ByteLevelBPETokenizer(add_prefix_space=True)
    bpe.train_from_iterator(
        texts,
        vocab_size=settings["vocab_size"],
        min_frequency=settings["min_frequency"],
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=False,
    )
    bos, eos = SPECIAL_TOKENS["bos"], SPECIAL_TOKENS["eos"]
    bpe._tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} $B:1 {eos}:1",  # as BERT's
        special_tokens=[(token, bpe.token_to_id(token)) for token in (bos, eos)],
    )
    named = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, clean_up_tokenization_spaces=False, **named
    )


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's files, each under its name only once all are whole."""
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        tokenizer.save_pretrained(unfinished)
        for path in Path(unfinished).iterdir():
            path.replace(folder / path.name)


def _tokenizer_from_hub(
    repository: client.Repository, records: Path, folder: Path
) -> dict[str, Any]:
    """Make a fast tokenizer from a repository's files, and compare it with them."""
    source = client.fetch(repository, checkpoints.choose_tokenizer)
    _save(vocabulary.build(source), folder)
    rows = islice(read_records(records), COMPARED_TEXTS)
    texts = [record.input[:COMPARED_CHARACTERS] for _, record in rows]
    checked = vocabulary.check_tokenizer(load_tokenizer(folder), source, texts)
    files = checkpoints.choose_tokenizer([path.name for path in source.iterdir()])
    origin = {
        "repository": repository.name,
        "revision": repository.revision,
        "files": {name: sha256(source / name) for name in files},
        "verified": client.verified(repository, source, files),
    }
    return {"origin": origin, **checked}


def _copy_tokenizer(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Copy a checkpoint's files, or make them of its GGUF file, without truncation and padding."""
    problem = checkpoints.missing_checkpoint(settings, checkpoints.missing_tokenizer)
    source = checkpoints.local_folder(settings)
    if problem or source is None:
        raise TokenizerError(problem)
    try:
        with recorded_facts(checkpoints.tokenizer_sources(source)) as sources:
            for name, path in checkpoints.tokenizer_sources(source).items():
                if path.suffix == checkpoints.GGUF.removeprefix("*"):
                    _save(_read_gguf(path), folder)
                    continue
                with whole_path(folder / name) as partial:
                    shutil.copyfile(path, partial)
    except SourceChanged as error:
        raise TokenizerError(str(error)) from None
    # Truncation and padding that were saved with it are switched off: whole inputs are stored.
    said = json.loads((folder / checkpoints.TOKENIZER).read_text(encoding="utf-8"))
    if said.get("truncation") or said.get("padding"):
        with whole_file(folder / checkpoints.TOKENIZER) as stream:
            json.dump({**said, "truncation": None, "padding": None}, stream, ensure_ascii=False)
    # An installed package is known by its version.
    packaged = "package" in settings
    return {"origin": checkpoints.local_origin(settings)} if packaged else {"sources": sources}


def _read_gguf(file: Path) -> Tokenizer:
    """Read the tokenizer of a GGUF file, its chat template included."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
    except Exception as error:  # whatever a damaged or unknown file makes of it
        why = f"{type(error).__name__}: {error}"
        raise TokenizerError(f"{file}: its tokenizer cannot be read ({why})") from None
