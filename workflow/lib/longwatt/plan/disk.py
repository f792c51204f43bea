"""Disk that a study takes: data, models, finished cells, and checkpoints of cells under way.

Sizes are looked up where files are there, and foretold from the settings elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from longwatt.disk_space import GIB
from longwatt.jobs.work_folder import KEPT_CHECKPOINTS
from longwatt.models.parameter_counts import counted
from longwatt.plan.causal_shapes import CAUSAL_FAMILY, LLAMA
from longwatt.plan.data_sizes import TOKENS_PER_WORD, Data
from longwatt.plan.model_shapes import BERT_LARGE, EXITS_FAMILY
from longwatt.plan.runtimes import RuntimeModel
from longwatt.study.model_settings import keeps_adapters, lora_of
from longwatt.study.settings import COMPARISON_DEFAULTS
from longwatt.study.stages import Stages

WEIGHT_BYTES = 4  # parameters are kept in fp32, whatever precision they are computed with
MOMENTS = 2  # Adam's, of each parameter, in every checkpoint
BYTES_PER_WORD = 6.1  # of English text with what parts its words
TOKEN_BYTES = 4  # a stored token id
EXAMPLE_BYTES = 300  # of an example's prediction and scores beside its text
# A compressed energy log per job and per GPU, measured with stand-ins whose readings are noisy.
LOG_BYTES_PER_S, GPU_LOG_BYTES_PER_S = 150.0, 95.0
UNKNOWN_LABELS = 3  # of a dataset that is not here yet; a classifier is small anyway
# The kind of model of each family, as far as its configuration says none.
PARTS_OF_DISK = {
    EXITS_FAMILY: {"model_type": "bert", **BERT_LARGE},
    CAUSAL_FAMILY: {"model_type": "llama", **LLAMA},
}
LOGIT_BYTES = 20  # of a number as JSON, what parts it from the next included


@dataclass(frozen=True)
class Share:
    """Disk that one kind of file takes (GiB), looked up or assumed as `source` says."""

    what: str
    gib: float
    source: str


@dataclass(frozen=True)
class Parameters:
    """Parameters of a study's models, by name.

    Attributes:
        trained: of a model as it is trained, up to its last exit; models that `unknown` has lack.
        whole: of a model as its checkpoint has it, with all its layers; likewise.
        estimated: models that start as a checkpoint whose configuration is not here yet.
        unknown: why a model cannot be built, as its library says it.
        trainable: of those of `trained`, the parameters that training changes: all of them, or
            those of the adapters.
        kept: of a finished cell's model, the parameters in its file: all, or its adapters'.
    """

    trained: Mapping[str, int]
    whole: Mapping[str, int]
    estimated: frozenset[str]
    unknown: Mapping[str, str]
    trainable: Mapping[str, int]
    kept: Mapping[str, int]


def parameters_of(model: RuntimeModel) -> Parameters:
    """Count the parameters of every model of a study, which takes some seconds."""
    known, entries, asked = model.known_configs, model.study["models"], []
    for name, config in known.items():
        family, exits = entries[name]["family"], entries[name].get("exits")
        # The kind of model is assumed where a configuration names none.
        kind = PARTS_OF_DISK.get(family, {"model_type": "bart"})
        whole_config = config if config.get("model_type") else {**kind, **config}
        same = {"family": family, "config": whole_config, "labels": UNKNOWN_LABELS}
        built = {**same, "exits": exits}
        asked += [built, {**same, "exits": None}, {**built, "lora": lora_of(entries[name])}]
    counts = counted(asked)
    trained, whole, changed = (dict(zip(known, counts[part::3], strict=True)) for part in range(3))
    drawn = {name for name in known if entries[name]["initialisation"] == "random"}
    numbers = [
        {name: count for name, count in found.items() if isinstance(count, int)}
        for found in (trained, whole, changed)
    ]
    adapters = {name for name in known if keeps_adapters(entries[name])}
    stories = {**whole, **trained, **changed}
    return Parameters(
        trained=numbers[0],
        whole=numbers[1],
        estimated=frozenset(n for n in known if n not in drawn and not model.configs.get(n)),
        unknown={name: why for name, why in stories.items() if isinstance(why, str)},
        trainable=numbers[2],
        kept={**numbers[0], **{name: n for name, n in numbers[2].items() if name in adapters}},
    )


def checkpoint_bytes(count: int) -> int:
    """Return the most bytes that a training keeps which changes `count` parameters.

    These are checkpoints (weights and Adam's moments), those kept and one being written, and the
    best weights that each of them refers to.
    """
    return (KEPT_CHECKPOINTS + 1) * count * WEIGHT_BYTES * (1 + MOMENTS + 1)


def disk(
    stages: Stages,
    model: RuntimeModel,
    parameters: Parameters,
    seconds: Mapping[tuple[str, str], float],
    together: Iterable[str],
) -> list[Share]:
    """Foretell the disk of a finished study, and checkpoints of cells under way.

    Args:
        stages: the study's.
        model: its run times.
        parameters: of its models; one that cannot be built takes nothing.
        seconds: of every cell and part; energy logs grow with them.
        together: the cells that train at once where their checkpoints take most.
    """
    counts, cells = parameters.trainable, stages.cells.values()
    finished = sum(parameters.kept.get(cell.model, 0) * WEIGHT_BYTES for cell in cells)
    under_way = [checkpoint_bytes(counts.get(stages.cells[name].model, 0)) for name in together]
    kept = f"weights in fp32 of each cell, or its adapters ({len(stages.cells)})"
    each = f"{KEPT_CHECKPOINTS} checkpoints kept and one being written, best weights"
    at_once = f"{len(under_way)} at once: {each}"
    return [
        _datasets(stages, model),
        _tokens(stages, model),
        _pretrained(stages, parameters.whole),
        Share("models of finished cells", finished / GIB, kept),
        _predictions(stages, model),
        *_recorded(stages, model),
        _energy_logs(stages, seconds),
        Share("checkpoints of cells under way", sum(under_way) / GIB, at_once),
    ]


def _datasets(stages: Stages, model: RuntimeModel) -> Share:
    names = stages.datasets.items()
    foretold = {f"datasets/{key}": _text_bytes(model.data[name]) for key, name in names}
    return _folders("datasets", foretold, f"{BYTES_PER_WORD} bytes a word")


def _tokens(stages: Stages, model: RuntimeModel) -> Share:
    foretold = {
        f"tokenized/{dataset}/{tokenizer}": _token_bytes(model.data[stages.datasets[dataset]])
        for dataset, tokenizer in stages.pairs()
    }
    lengths = f"{TOKENS_PER_WORD} tokens a word, {TOKEN_BYTES} bytes each"
    return _folders("tokens", foretold, lengths)


def _pretrained(stages: Stages, counts: Mapping[str, int]) -> Share:
    """Add up checkpoints. One from a hub is also in the hub's cache."""
    models, foretold = stages.study["models"], dict[str, float]()
    cached: dict[tuple[str, str], int] = {}  # several models can begin as one
    for key, name in stages.models.items():
        whole = counts.get(name, 0) * WEIGHT_BYTES
        foretold[f"models/{key}"] = whole
        if models[name].get("repository"):
            cached[models[name]["repository"], models[name]["revision"]] = whole
    assumed = "weights in fp32; twice if from a hub, whose cache keeps a copy"
    found = _folders("pretrained models", foretold, assumed)
    source = found.source if foretold else "all start from random weights"
    return replace(found, gib=found.gib + sum(cached.values()) / GIB, source=source)


def _predictions(stages: Stages, model: RuntimeModel) -> Share:
    total = 0.0
    for name, cell in stages.cells.items():
        data = model.data[cell.dataset]
        for point in stages.points(name):
            settings = stages.predict(name, point).settings
            chosen = settings["inference"]
            references = settings.get("references", COMPARISON_DEFAULTS["references"])
            made = data.predictions(chosen["split"], chosen["max_examples"], references)
            total += made * (EXAMPLE_BYTES + data.words_out * BYTES_PER_WORD)
    return Share("predictions and scores", total / GIB, "answers as long as the references")


def _recorded(stages: Stages, model: RuntimeModel) -> list[Share]:
    """Add up the recorded logits of all exits, if any cell has several."""
    cells = [name for name in stages.cells if model.records(name)]
    total = 0
    for name in cells:
        cell = stages.cells[name]
        labels = len(model.facts.get(cell.dataset, {}).get("labels", ())) or UNKNOWN_LABELS
        logits = len(model.shapes[cell.model].exits) * labels * LOGIT_BYTES
        total += model.recorded_examples(name) * (EXAMPLE_BYTES + logits)
    source = f"{UNKNOWN_LABELS} labels where they are not known yet, {LOGIT_BYTES} bytes a number"
    return [Share("what exits say", total / GIB, source)] if cells else []


def _energy_logs(stages: Stages, seconds: Mapping[tuple[str, str], float]) -> Share:
    per_s = {name: LOG_BYTES_PER_S + GPU_LOG_BYTES_PER_S * stages.gpus(name) for name, _ in seconds}
    total = sum(each * per_s[name] for (name, _), each in seconds.items())
    rates = f"{LOG_BYTES_PER_S:.0f} bytes/s of a job and {GPU_LOG_BYTES_PER_S:.0f} of each GPU"
    return Share("energy logs", total / GIB, f"{rates}, compressed")


def _text_bytes(data: Data) -> float:
    words = _inputs(data) * data.words_in + sum(data.rows.values()) * data.words_out
    return words * BYTES_PER_WORD


def _token_bytes(data: Data) -> float:
    """Add up ids of inputs and references, the references' texts and documents' first words."""
    inputs, references = _inputs(data), sum(data.rows.values())
    ids = (inputs * data.words_in + references * data.words_out) * TOKENS_PER_WORD * TOKEN_BYTES
    return ids + (inputs + references) * data.words_out * BYTES_PER_WORD


def _inputs(data: Data) -> int:
    return sum(data.inputs(split) for split in data.rows)


def _size(folder: Path) -> int:
    """Return the bytes of a folder's files, 0 without one."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _folders(what: str, foretold: Mapping[str, float], assumed: str) -> Share:
    """Add up folders of resources/, by the bytes foretold where there are no files."""
    sizes = {name: _size(Path("resources") / name) for name in foretold}
    total = sum(size or foretold[name] for name, size in sizes.items())
    there = sum(map(bool, sizes.values()))
    some = f" ({there} of {len(sizes)} looked up)" if there else ""
    source = "looked up" if there == len(sizes) else f"estimated: {assumed}{some}"
    return Share(what, total / GIB, source)
