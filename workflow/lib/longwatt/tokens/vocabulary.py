"""Fast tokenizers of a checkpoint's own files, checked against those files.

Repositories of 2020 and 2021, the published study's among them, may hold a SentencePiece model or
a BPE vocabulary and no tokenizer.json. transformers makes a fast tokenizer of most. It fails on
BigBird-Pegasus: transformers 5.23 does not find the kind's class, and PegasusTokenizer, asked by
name, puts a second mask token before the pieces and so moves every id by one. Pegasus vocabularies
therefore go through its PegasusConverter with the offset that their files state.

Some classes take only the vocabulary from a tokenizer.json and make the rest anew (Pegasus' own
then keeps white space that the file strips). Here the file is taken as it is. Every tokenizer is
compared with its files' own library on the study's texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from longwatt.files import read_object
from longwatt.hub import checkpoints
from longwatt.hub.checkpoints import BPE, CONFIG, SENTENCEPIECE, TOKENIZER, WORDPIECE
from longwatt.tokens.special_tokens import Tokenizer

# Kinds of model with a vocabulary of Pegasus' layout.
PEGASUS = ("pegasus", "pegasus_x", "bigbird_pegasus")
PEGASUS_OFFSET = 103  # ids before the pieces, for pretraining; BigBird-Pegasus says 0
WAY_OUT = "save its tokenizer.json elsewhere and name that folder (kind: checkpoint, path: FOLDER)"
TOKEN_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# Share of all tokens. Libraries differ on rare characters; a wrong numbering differs everywhere.
DIFFERING_TOKENS = 0.01
Encode = Callable[[str], list[int]]


class VocabularyError(ValueError):
    """A vocabulary without a faithful fast tokenizer, with a way out."""


def build(folder: Path) -> Tokenizer:
    """Build a fast tokenizer of a folder's files.

    Args:
        folder: holds tokenizer.json, spiece.model, vocab.txt, or vocab.json and merges.txt, and the
            settings that say their kind.

    Raises:
        VocabularyError: it cannot be made.
    """
    model = _sentencepiece_file(folder)
    if model is not None and _is_pegasus(folder) and not (folder / TOKENIZER).is_file():
        return _pegasus(model, _settings(folder))
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)
    except (ValueError, OSError, KeyError) as error:
        said = str(error).partition("\n")[0]
        why = f"no fast tokenizer can be made of {folder} ({said}); {WAY_OUT}"
        raise VocabularyError(why) from None
    return _as_written(made, folder / TOKENIZER) if (folder / TOKENIZER).is_file() else made


def check_tokenizer(tokenizer: Tokenizer, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Compare a tokenizer with the vocabulary that it was made of.

    Args:
        tokenizer: as it will be used.
        folder: as for `build`.
        texts: to tokenize both ways.

    Returns:
        The files it was made of, how many texts and tokens were compared, how many of them agreed
        or differed.

    Raises:
        VocabularyError: too many differ.
    """
    source, ids = _reference(folder)
    made = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    wanted = [ids(text) for text in texts]
    unequal = [text for text, found, own in zip(texts, made, wanted, strict=True) if found != own]
    # Not by place: two cuts of equal probability (". .." and ".. .") are as good as each other.
    lacking = (Counter(o) - Counter(m) for m, o in zip(made, wanted, strict=True))
    differing = sum(each.total() for each in lacking)
    total = sum(map(len, wanted))
    if differing > DIFFERING_TOKENS * total:
        share = f"{differing} of {total} tokens"
        raise VocabularyError(
            f"the fast tokenizer made of {folder} differs from its {source} in {share} of the "
            f"dataset's first texts, such as {unequal[0][:80]!r}; {WAY_OUT}"
        )
    return {
        "made_of": source,
        "texts_compared": len(texts),
        "texts_equal": len(texts) - len(unequal),
        "tokens_compared": total,
        "tokens_differing": differing,
    }


def _as_written(made: Tokenizer, file: Path) -> Tokenizer:
    """Take a tokenizer.json to the letter, and the special tokens' roles from `made`."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_whole(file),
        clean_up_tokenization_spaces=bool(made.clean_up_tokenization_spaces),
        chat_template=made.chat_template,
        **{role: getattr(made, role) for role in TOKEN_ROLES if getattr(made, role) is not None},
    )


def _whole(file: Path) -> Any:
    """Read a tokenizer.json and switch off truncation and padding, which may have been saved."""
    from tokenizers import Tokenizer as Inner

    found = Inner.from_file(str(file))
    found.no_truncation()
    found.no_padding()
    return found


def _sentencepiece_file(folder: Path) -> Path | None:
    return next((folder / name for name in SENTENCEPIECE if (folder / name).is_file()), None)


def _settings(folder: Path) -> dict[str, Any]:
    """Read the tokenizer's settings, with a special token given as its text."""
    said: dict[str, Any] = {}
    for name in reversed(checkpoints.TOKENIZER_SETTINGS[:2]):
        said |= read_object(folder / name)
    return {
        key: value.get("content", value) if isinstance(value, Mapping) else value
        for key, value in said.items()
    }


def _is_pegasus(folder: Path) -> bool:
    named = str(_settings(folder).get("tokenizer_class") or "")
    return named.startswith("Pegasus") or read_object(folder / CONFIG).get("model_type") in PEGASUS


def _reference(folder: Path) -> tuple[str, Encode]:
    """Return the deciding file's name and its own library's ids of a text."""
    if (folder / TOKENIZER).is_file():
        exact = _whole(folder / TOKENIZER)
        return TOKENIZER, lambda text: list(exact.encode(text, add_special_tokens=False).ids)
    model = _sentencepiece_file(folder)
    if model is not None:
        from sentencepiece import SentencePieceProcessor

        pieces = SentencePieceProcessor(model_file=str(model))
        said = _settings(folder).get("offset", PEGASUS_OFFSET)
        offset = int(said) if _is_pegasus(folder) else 0
        return model.name, lambda text: [number + offset for number in pieces.encode(text)]
    if not (folder / BPE[0]).is_file():
        return WORDPIECE, _wordpiece_ids(folder)
    from tokenizers import ByteLevelBPETokenizer

    vocabulary, merges = (str(folder / name) for name in BPE)
    prefix = bool(_settings(folder).get("add_prefix_space", False))
    plain = ByteLevelBPETokenizer(vocabulary, merges, add_prefix_space=prefix)
    return " + ".join(BPE), lambda text: list(plain.encode(text).ids)


def _wordpiece_ids(folder: Path) -> Encode:
    """Cut as BERT does, whose files of 2019 mention case only where it is kept."""
    from tokenizers import BertWordPieceTokenizer

    said = _settings(folder)
    plain = BertWordPieceTokenizer(
        str(folder / WORDPIECE),
        lowercase=bool(said.get("do_lower_case", True)),
        handle_chinese_chars=said.get("tokenize_chinese_chars", True),
        strip_accents=said.get("strip_accents"),
    )
    return lambda text: list(plain.encode(text, add_special_tokens=False).ids)


def _pegasus(model: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """Convert Pegasus' pieces, which stand behind `offset` ids for pretraining."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import PegasusConverter

    named = {role: str(settings[role]) for role in TOKEN_ROLES if settings.get(role)}
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **named}
    masks: dict[str, Any] = {"mask_token_sent": None, "mask_token": None}
    offset = int(settings.get("offset", PEGASUS_OFFSET))
    if offset:
        masks["mask_token_sent"] = settings.get("mask_token_sent") or "<mask_1>"
        masks["mask_token"] = named.get("mask_token", "<mask_2>")
    ids = {"eos_token_id": 1, "mask_token_id": 3}
    facts = SimpleNamespace(vocab_file=str(model), offset=offset, **{**named, **masks, **ids})
    converter = PegasusConverter(facts)
    if converter.proto.trainer_spec.model_type != converter.proto.trainer_spec.UNIGRAM:
        raise VocabularyError(f"{model} is no unigram model, as Pegasus' are; {WAY_OUT}")
    for piece in converter.proto.pieces:  # control pieces in a text are text, as for SentencePiece
        piece.type = piece.NORMAL if piece.type == piece.CONTROL else piece.type
    return PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **named,
    )
