"""Write a cell's model card: README.md with the metadata that Hugging Face's hub reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from longwatt.exports.energy_words import energy_sentence, hardware_words, version_of
from longwatt.exports.facts import CellFacts, JobFacts, StudyFacts, base_model
from longwatt.exports.formats import model_card_problems
from longwatt.exports.known import KnownFacts, LeftOut, NothingToExport, without_unknown
from longwatt.layout.escaping import in_markdown
from longwatt.layout.pages import markdown_table
from longwatt.layout.wording import interval, percent
from longwatt.study.model_settings import keeps_adapters

CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
CLASSIFICATION_TASK, GENERATION_TASK = "text-classification", "text-generation"
ROUGE = "rouge"  # the hub's one name for all of its kinds
UNKNOWN_SCORE = "no inference point of the trained model is finished"
CardRows = list[tuple[str, Any]]
# Settings of training in the order of the card, by their names in the study.
HYPERPARAMETERS = (
    "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm", "max_epochs", "max_steps", "max_target_tokens",
)  # fmt: skip


def model_card(study: StudyFacts, cell: CellFacts, left_out: LeftOut) -> str:
    """Write the card of one trained cell.

    Args:
        study: with the cell's own facts.
        cell: the cell.
        left_out: takes notes of what is not known.

    Raises:
        NothingToExport: the cell has no finished training.
    """
    from huggingface_hub import ModelCard, ModelCardData

    if cell.training is None:
        raise NothingToExport(
            f"{cell.cell} has no finished training, and a card describes a trained model"
        )
    facts = metadata(study, cell, left_out)
    data: Any = ModelCardData(**facts)
    if problems := model_card_problems(data.to_dict()):
        raise RuntimeError(f"a model card's metadata is wrong: {'; '.join(problems)}")
    text = CARD_TEMPLATE.read_text(encoding="utf-8")
    card: Any = ModelCard.from_template(data, template_str=text, **_body(study, cell))
    return f"{str(card).strip()}\n"


def metadata(study: StudyFacts, cell: CellFacts, left_out: LeftOut) -> KnownFacts:
    """Collect the arguments of `huggingface_hub.ModelCardData` that are known."""
    base, declared = base_model(cell.model), study.declared
    results = [_result(cell, job) for job in _own_points(cell) if "score" in job.row]
    _note_undeclared(study, cell, left_out)
    found: KnownFacts = without_unknown(
        {
            "language": declared.get("language"),
            "license": declared.get("license"),
            "license_link": declared.get("license_url") if "license" in declared else None,
            "library_name": _library(cell),
            "pipeline_tag": _task(cell),
            "tags": ["longwatt"],
            "datasets": [cell.dataset["repository"]],
            "base_model": base.get("repository"),
            "base_model_relation": _relation(cell) if base.get("repository") else None,
            "metrics": list(dict.fromkeys(result["metric_type"] for result in results)),
            "co2_eq_emissions": _emissions(study, cell),
        }
    )
    if results:
        found |= {"model_name": cell.heading, "eval_results": _as_results(results)}
    return found


def _as_results(results: Iterable[KnownFacts]) -> list[Any]:
    from huggingface_hub import EvalResult

    return [EvalResult(**result) for result in results]


def _note_undeclared(study: StudyFacts, cell: CellFacts, left_out: LeftOut) -> None:
    """Note which metadata nobody has declared or measured, and how to."""
    file = f"studies/{study.name}.yaml"
    for key in ("license", "language"):
        if key not in study.declared:
            left_out.add(key, f"declare export: {{{key}: ...}} in {file}")
    if cell.dataset["repository"] is None:
        left_out.add("datasets", f"the data of {cell.dataset['id']} is no repository of the hub")
    if base_model(cell.model) and "repository" not in base_model(cell.model):
        left_out.add("base_model", f"{cell.model['id']} is no repository of the hub")
    if "grams_per_kwh" not in study.carbon:
        left_out.add("co2_eq_emissions", "declare carbon: {...} in config.yaml")
    elif _emissions(study, cell) is None:
        left_out.add("co2_eq_emissions", "the energy of the training is not known")
    elif "country" not in study.place:
        left_out.add(
            "co2_eq_emissions.geographical_location", "declare place: {country: ...} in config.yaml"
        )
    if not any("score" in job.row for job in _own_points(cell)):
        left_out.add("model-index", UNKNOWN_SCORE)


def _own_points(cell: CellFacts) -> list[JobFacts]:
    """List the points at which the trained model answers alone."""
    own = (job for job in cell.points if not job.before_training)
    return [job for job in own if "cascade_first" not in job.row]


def _task(cell: CellFacts) -> str:
    return CLASSIFICATION_TASK if cell.dataset["classifies"] else GENERATION_TASK


def _library(cell: CellFacts) -> str | None:
    if "exits" in cell.model:  # no library but this one loads it
        return None
    return "peft" if keeps_adapters(cell.model) else "transformers"


def _relation(cell: CellFacts) -> str:
    return "adapter" if keeps_adapters(cell.model) else "finetune"


def _emissions(study: StudyFacts, cell: CellFacts) -> KnownFacts | None:
    job, place = cell.training, study.place
    sentence, carbon = (energy_sentence(job), _carbon(job)) if job else (None, None)
    if job is None or sentence is None or carbon is None:
        return None
    where = [place[name] for name in ("location", "country") if name in place]
    return {
        "emissions": job.column("gco2e"),
        "source": f"longwatt. {sentence} Electricity: {carbon}.",
        # The hub knows pre-training and fine-tuning, and training from random weights is neither.
        "training_type": "fine-tuning" if base_model(cell.model) else None,
        "geographical_location": ", ".join(where) if "country" in place else None,
        "hardware_used": hardware_words(job),
    }


def _carbon(job: JobFacts) -> str | None:
    """Cite the carbon of electricity behind a job's grams, None where none was declared."""
    row = job.row
    if job.column("gco2e") is None:
        return None
    return f"{row['grid_gco2e_per_kwh']:g} gCO2e/kWh ({row['grid_source']}, {row['grid_year']:g})"


def _result(cell: CellFacts, job: JobFacts) -> KnownFacts:
    """Give a score as `huggingface_hub.EvalResult` takes it, its interval among its arguments."""
    row, inference = job.row, job.settings.get("inference") or {}
    name = str(row["score_name"])
    found: KnownFacts = without_unknown(
        {
            "task_type": _task(cell),
            "dataset_type": cell.dataset["repository"] or cell.dataset["id"],
            "dataset_name": cell.dataset["title"],
            "dataset_split": inference.get("split"),
            "metric_type": ROUGE if name.startswith(ROUGE) else name,
            "metric_name": f"{name} ({job.point})",
            "metric_value": row["score"],
            "metric_args": {
                "inference": job.point,
                "max_input_tokens": row["seq_len"],
                "exit_rule": row.get("exit_rule"),
                "exit_value": row.get("exit_value"),
                "examples": row.get("examples"),
                "interval_confidence": row.get("score_confidence"),
                "interval_low": row.get("score_ci_low"),
                "interval_high": row.get("score_ci_high"),
            },
        }
    )
    return found


def _body(study: StudyFacts, cell: CellFacts) -> KnownFacts:
    training = cell.training
    assert training is not None
    return {
        "title": in_markdown(cell.heading),
        "summary": in_markdown(_summary(study, cell)),
        "data_table": _table(_data_rows(cell)),
        "data_notes": [in_markdown(note) for note in cell.brought.get("notes", ())],
        "training_table": _table(_training_rows(training)),
        "score_table": _scores(cell),
        "interval": _interval(cell),
        "energy_table": _table(_energy_rows(cell)),
        "energy_notes": _energy_notes(cell),
        "provenance_table": _table(_provenance_rows(study, cell, training)),
    }


def _summary(study: StudyFacts, cell: CellFacts) -> str:
    base = base_model(cell.model).get("name")
    begin = f"fine-tuned from {base}" if base else "trained from random weights"
    adapted = " with adapters (LoRA)" if keeps_adapters(cell.model) else ""
    data = f"on {cell.dataset['title']}, inputs of at most {_length(cell)} tokens"
    return (
        f"{cell.model['title']} (family {cell.model['family']}), {begin}{adapted} {data}. "
        f"It is one cell of the study {study.title}, made with longwatt."
    )


def _length(cell: CellFacts) -> Any:
    return cell.points[0].row["seq_len"]


def _data_rows(cell: CellFacts) -> CardRows:
    brought = cell.brought
    splits = brought.get("splits") or {}
    sizes = ", ".join(f"{one['examples']} {name}" for name, one in splits.items())
    return [
        ("dataset", cell.dataset["title"]),
        ("source", cell.dataset["source"]),
        ("repository of the hub", cell.dataset["repository"]),
        ("origin", brought.get("origin")),
        ("licence", brought.get("licence")),
        ("examples", sizes),
    ]


def _training_rows(job: JobFacts) -> CardRows:
    settings, row = job.settings, job.row
    training = settings.get("training") or {}
    versions = job.made.get("versions") or {}
    return [
        *((name, training.get(name)) for name in HYPERPARAMETERS),
        ("precision", (settings.get("budget") or {}).get("precision")),
        ("effective batch size", row.get("effective_batch_size")),
        ("adaptation", row.get("adaptation")),
        ("attention", row.get("attention_regime")),
        ("parameters", row.get("parameters")),
        ("trained parameters", row.get("trainable_parameters")),
        ("seed", row.get("seed")),
        ("steps", row.get("steps")),
        ("examples seen", row.get("samples")),
        ("input tokens seen", row.get("input_tokens")),
        ("ended by", row.get("ended_by")),
        ("best step", row.get("best_step")),
        ("seconds", row.get("train_runtime_s")),
        ("hardware", hardware_words(job)),
        ("libraries", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _scores(cell: CellFacts) -> str:
    head = ["inference point", "split", "metric", "score", "interval", "examples"]
    body = [_score_row(job) for job in cell.points if "cascade_first" not in job.row]
    return markdown_table(head, [row for row in body if row], head[:3])


def _score_row(job: JobFacts) -> list[str]:
    row = job.row
    if "score" not in row:
        return []
    ends = (row.get("score_ci_low"), row.get("score_ci_high"))
    before = " (before training)" if job.before_training else ""
    split = (job.settings.get("inference") or {}).get("split", "")
    between = interval(*ends) if None not in ends else ""
    score, examples = f"{row['score']:.1f}", str(row.get("examples", ""))
    return [f"{job.point}{before}", str(split), str(row["score_name"]), score, between, examples]


def _interval(cell: CellFacts) -> str:
    found = [job.row.get("score_confidence") for job in cell.points]
    shares = ", ".join(percent(share) for share in dict.fromkeys(found) if share is not None)
    return f"at {shares} over the examples" if shares else "not known"


def _energy_rows(cell: CellFacts) -> CardRows:
    training = cell.training
    rows: CardRows = []
    if training and energy_sentence(training):
        rows.append(("training, validations included (kWh)", training.column("energy_kwh")))
        if carbon := _carbon(training):
            rows.append((f"training (gCO2e, at {carbon})", training.column("gco2e")))
    for job in _own_points(cell):
        if energy_sentence(job):
            rows.append((f"{job.point} (joules an example)", job.row.get("joules_per_example")))
    return rows or [("training (kWh)", "not known")]


def _energy_notes(cell: CellFacts) -> list[str]:
    jobs = [*([cell.training] if cell.training else []), *_own_points(cell)]
    said: dict[str, list[str]] = {}
    for job in jobs:
        sentence = energy_sentence(job) or "Energy is not known."
        said.setdefault(sentence, []).append(job.point or "training")
    return [in_markdown(f"{', '.join(names)}: {words}") for words, names in said.items()]


def _provenance_rows(study: StudyFacts, cell: CellFacts, training: JobFacts) -> CardRows:
    stamp = training.made.get("provenance") or {}
    identity = training.made.get("identity") or {}
    author = study.declared.get("author") or {}
    who = ", ".join(author[key] for key in ("name", "organization") if key in author)
    return [
        ("study", study.name),
        ("cell", cell.cell),
        ("author", who),
        ("longwatt", stamp.get("longwatt")),
        ("python", version_of(training, "python")),
        ("digest of the settings", stamp.get("settings_digest")),
        ("digest of the code", stamp.get("code_digest")),
        ("digest of the data", identity.get("data")),
    ]


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    known = [(name, _plain(value)) for name, value in rows if without_unknown([value])]
    return markdown_table(["", ""], known, ["", ""])


def _plain(value: Any) -> str:
    """Write a number with at most six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
