"""What a study takes on disk: data, models, what finished cells keep, and the checkpoints of those under way.

Foretold from the settings where nothing is there yet, looked up where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.data_sizes import TOKENS_PER_WORD, Data
from longwatt.runtime_model import RuntimeModel
from longwatt.settings import COMPARISON_DEFAULTS
from longwatt.shapes import EXITS, Shape, shape_of
from longwatt.stages import Stages
from longwatt.workdir import KEPT_CHECKPOINTS

GIB = 2**30
WEIGHT_BYTES = 4  # a parameter is trained and kept in fp32, whatever precision it is computed with
MOMENTS = 2  # Adam's, of each parameter, in every checkpoint
BYTES_PER_WORD = 6.1  # of English text with what parts its words
TOKEN_BYTES = 4  # a stored token id
EXAMPLE_BYTES = 300  # of an example's prediction and scores beside its text
# A compressed energy log, measured with stand-ins for GPUs whose readings are noisy: per job, and per GPU.
LOG_BYTES_PER_S, GPU_LOG_BYTES_PER_S = 150.0, 95.0
GLOBAL_PROJECTIONS = 3  # LED has query, key and value a second time, for global attention
UNTIED_COPIES = 3  # the encoder's and the decoder's embeddings and the output layer, each a matrix of its own
# Learned positions of the encoder and the decoder that transformers takes where a configuration does not say.
POSITIONS = {"led": (16384, 1024), "bigbird_pegasus": (4096, 4096)}
OTHER_POSITIONS = (1024, 1024)
ENCODER_POSITIONS = {"roberta": 514, "modernbert": 0}  # of an encoder alone; RoBERTa's begin at 2, ModernBERT rotates
OTHER_ENCODER_POSITIONS = 512
SEGMENTS = {"bert": 2, "roberta": 1, "electra": 2}  # kinds of tokens with an embedding of their own
NARROW_EMBEDDINGS = {"electra": 128}  # their width where it is not that of the layers
UNKNOWN_LABELS = 3  # of a dataset that is not here yet; a classifier is small whatever their number
LOGIT_BYTES = 20  # of a number as JSON, what parts it from the next included


@dataclass(frozen=True)
class Share:
    """What one kind of file takes.

    Attributes:
        what: for people.
        gib: GiB.
        source: looked up, or from which assumptions.
    """

    what: str
    gib: float
    source: str


def parameters(family: str, config: Mapping[str, Any], exits: Mapping[str, Any] | None = None) -> int:
    """Parameters of a model, from the sizes of its layers.

    Within 1 % for LED, BigBird-Pegasus and BART, and within 2 % for BERT, RoBERTa, DistilBERT, ELECTRA and ModernBERT
    up to any layer; for others only as far as they are built like these.

    Args:
        family: its `family` in the study.
        config: its configuration as far as it is known; the rest is as transformers has it.
        exits: its `exits` in the study; None for a whole encoder, as a checkpoint has it, or another family.
    """
    shape = shape_of(family, config, exits)
    if family == EXITS:
        return _encoder_parameters(shape, config)
    width = shape.d_model
    attention = 4 * width * (width + 1)
    own = attention + (GLOBAL_PROJECTIONS * width * (width + 1) if family == "led" else 0)
    encoder = own + _feed_forward(width, shape.encoder_ffn) + 2 * 2 * width
    decoder = 2 * attention + _feed_forward(width, shape.decoder_ffn) + 3 * 2 * width
    tables = 1 if config.get("tie_word_embeddings", True) else 1 + UNTIED_COPIES
    embeddings = (tables * shape.vocabulary + sum(_positions(family, config)) + 4) * width
    return embeddings + shape.encoder_layers * encoder + shape.decoder_layers * decoder


def _encoder_parameters(shape: Shape, config: Mapping[str, Any]) -> int:
    """Of an encoder alone with its pooler and its classifiers."""
    width, kind = shape.d_model, str(config.get("model_type"))
    layer = 4 * width * (width + 1) + _feed_forward(width, shape.encoder_ffn) + 2 * 2 * width
    positions = ENCODER_POSITIONS.get(kind, int(config.get("max_position_embeddings") or OTHER_ENCODER_POSITIONS))
    narrow = int(config.get("embedding_size") or NARROW_EMBEDDINGS.get(kind, width))
    embeddings = (shape.vocabulary + positions + SEGMENTS.get(kind, 0) + 2) * narrow
    embeddings += (narrow + 1) * width if narrow != width else 0
    classifiers = len(shape.exits) * UNKNOWN_LABELS * (width + 1)
    return embeddings + shape.encoder_layers * layer + width * (width + 1) + classifiers


def _feed_forward(width: int, inner: int) -> int:
    return 2 * width * inner + width + inner


def _positions(family: str, config: Mapping[str, Any]) -> tuple[int, int]:
    both = config.get("max_position_embeddings")
    encoder, decoder = POSITIONS.get(family, OTHER_POSITIONS)
    return (
        int(config.get("max_encoder_position_embeddings") or both or encoder),
        int(config.get("max_decoder_position_embeddings") or both or decoder),
    )


def parameters_of(model: RuntimeModel) -> dict[str, int]:
    """Parameters of every model of a study."""
    models = model.study["models"]
    return {
        name: parameters(models[name]["family"], known, models[name].get("exits"))
        for name, known in model.known_configs.items()
    }


def checkpoint_bytes(count: int) -> int:
    """The most that a training of `count` parameters keeps while it is under way.

    Checkpoints (weights and Adam's moments): those kept and one being written; the best weights that each of these
    refers to.
    """
    checkpoints = KEPT_CHECKPOINTS + 1
    return checkpoints * count * WEIGHT_BYTES * (1 + MOMENTS) + checkpoints * count * WEIGHT_BYTES


def disk(
    stages: Stages, model: RuntimeModel, seconds: Mapping[tuple[str, str], float], together: Iterable[str]
) -> list[Share]:
    """What a study will take once all its cells are finished, and beside it the checkpoints of those under way.

    Args:
        stages: the study's.
        model: its run times.
        seconds: of every cell and part; energy logs grow with them.
        together: the cells that train at once where their checkpoints take most.
    """
    counts = parameters_of(model)
    finished = sum(counts[cell.model] * WEIGHT_BYTES for cell in stages.cells.values())
    under_way = [checkpoint_bytes(counts[stages.cells[name].model]) for name in together]
    kept = f"weights in fp32 of each cell ({len(stages.cells)})"
    at_once = f"{len(under_way)} at once: {KEPT_CHECKPOINTS} checkpoints kept and one being written, best weights"
    return [
        _datasets(stages, model),
        _tokens(stages, model),
        _pretrained(stages, model),
        Share("models of finished cells", finished / GIB, kept),
        _predictions(stages, model),
        *_recorded(stages, model),
        _energy_logs(stages, seconds),
        Share("checkpoints of cells under way", sum(under_way) / GIB, at_once),
    ]


def _datasets(stages: Stages, model: RuntimeModel) -> Share:
    sizes = {key: _size(Path("resources/datasets") / key) for key in stages.datasets}
    total = sum(size or _text_bytes(model.data[stages.datasets[key]]) for key, size in sizes.items())
    return Share("datasets", total / GIB, _looked_up(sizes.values(), f"{BYTES_PER_WORD} bytes a word"))


def _tokens(stages: Stages, model: RuntimeModel) -> Share:
    sizes, total = [], 0.0
    for dataset, tokenizer in stages.pairs():
        size = _size(Path("resources/tokenized") / dataset / tokenizer)
        data = model.data[stages.datasets[dataset]]
        total += size or _token_bytes(data)
        sizes.append(size)
    return Share("tokens", total / GIB, _looked_up(sizes, f"{TOKENS_PER_WORD} tokens a word, {TOKEN_BYTES} bytes each"))


def _pretrained(stages: Stages, model: RuntimeModel) -> Share:
    """A model from a hub stands in the hub's cache and, as safetensors, in resources; encoders have all layers."""
    models = stages.study["models"]
    counts = {name: parameters(models[name]["family"], known) for name, known in model.known_configs.items()}
    sizes, total = [], 0.0
    cached: dict[tuple[str, str], int] = {}  # several models can begin as one
    for key, name in stages.models.items():
        size, whole = _size(Path("resources/models") / key), counts[name] * WEIGHT_BYTES
        total += size or whole
        sizes.append(size)
        if models[name].get("repository"):
            cached[models[name]["repository"], models[name]["revision"]] = whole
    total += sum(cached.values())
    source = _looked_up(sizes, "weights in fp32; twice if from a hub, whose cache keeps a copy")
    return Share("pretrained models", total / GIB, source if sizes else "all start from random weights")


def _predictions(stages: Stages, model: RuntimeModel) -> Share:
    total = 0.0
    for name, cell in stages.cells.items():
        data = model.data[cell.dataset]
        for point in stages.points(name):
            settings = stages.predict(name, point).settings
            chosen, references = settings["inference"], settings.get("references", COMPARISON_DEFAULTS["references"])
            made = data.predictions(chosen["split"], chosen["max_examples"], references)
            total += made * (EXAMPLE_BYTES + data.words_out * BYTES_PER_WORD)
    return Share("predictions and scores", total / GIB, "answers as long as the references")


def _recorded(stages: Stages, model: RuntimeModel) -> list[Share]:
    """What every exit says of every example; nothing where no cell has several exits."""
    cells = [name for name in stages.cells if model.records(name)]
    total = sum(model.recorded_examples(name) * (EXAMPLE_BYTES + _logit_bytes(stages, model, name)) for name in cells)
    source = f"{UNKNOWN_LABELS} labels where they are not known yet, {LOGIT_BYTES} bytes a number"
    return [Share("what exits say", total / GIB, source)] if cells else []


def _logit_bytes(stages: Stages, model: RuntimeModel, name: str) -> int:
    cell = stages.cells[name]
    labels = len(model.facts.get(cell.dataset, {}).get("labels", ())) or UNKNOWN_LABELS
    return len(model.shapes[cell.model].exits) * labels * LOGIT_BYTES


def _energy_logs(stages: Stages, seconds: Mapping[tuple[str, str], float]) -> Share:
    total = sum(s * (LOG_BYTES_PER_S + GPU_LOG_BYTES_PER_S * stages.gpus(name)) for (name, _), s in seconds.items())
    source = f"{LOG_BYTES_PER_S:.0f} bytes/s of a job and {GPU_LOG_BYTES_PER_S:.0f} of each GPU, compressed"
    return Share("energy logs", total / GIB, source)


def _text_bytes(data: Data) -> float:
    return (_inputs(data) * data.words_in + sum(data.rows.values()) * data.words_out) * BYTES_PER_WORD


def _token_bytes(data: Data) -> float:
    """Ids of inputs and references, and the texts of the references and of the documents' first words."""
    inputs, references = _inputs(data), sum(data.rows.values())
    ids = (inputs * data.words_in + references * data.words_out) * TOKENS_PER_WORD * TOKEN_BYTES
    return ids + (inputs + references) * data.words_out * BYTES_PER_WORD


def _inputs(data: Data) -> int:
    return sum(data.inputs(split) for split in data.rows)


def _size(folder: Path) -> int:
    """Bytes of a folder's files; 0 where it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _looked_up(sizes: Iterable[int], assumed: str) -> str:
    found = list(sizes)
    there = sum(size > 0 for size in found)
    if there == len(found):
        return "looked up"
    return f"estimated: {assumed}" + (f" ({there} of {len(found)} looked up)" if there else "")
