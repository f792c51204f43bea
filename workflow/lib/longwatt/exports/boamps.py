"""Write BoAmps 1.0 reports, one of each training and inference.

BoAmps is Boavizta's data model for the energy of AI tasks (https://github.com/Boavizta/BoAmps).
Its schemas lie in workflow/schemas/boamps.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from longwatt.energy.reduction.reduce import ESTIMATE
from longwatt.energy.reduction.windows import COUNTER, INTEGRAL, RAPL
from longwatt.exports.energy_words import energy_sentence, hardware, version_of
from longwatt.exports.facts import CellFacts, JobFacts, StudyFacts, base_model
from longwatt.exports.formats import boamps_problems
from longwatt.exports.known import KnownFacts, LeftOut, NothingToExport, without_unknown
from longwatt.layout.wording import is_known, with_interval

VERSION = "1.0.0"
SPECIFICATION = "https://github.com/Boavizta/BoAmps/tree/main/model"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"  # the format of all its dates, which has no time zone; here UTC
HUB = "https://huggingface.co"
BILLION = 1e9
FULL_ACCURACY = 100.0
GPU_MODES = {COUNTER: "nvml counter", INTEGRAL: "nvml power"}
CPU_MODES = {RAPL: "rapl", ESTIMATE: "constant"}
METHOD, ESTIMATING = "longwatt", "longwatt estimate"


def reports(
    study: StudyFacts, now: datetime, left_out: LeftOut
) -> Iterator[tuple[str, KnownFacts]]:
    """Yield every report with its path below the folder of exports.

    Args:
        study: its finished cells.
        now: when the reports are written.
        left_out: takes notes of what is not known.

    Raises:
        NothingToExport: `place.infrastructure` is not declared, which BoAmps requires.
    """
    if "infrastructure" not in study.place:
        raise NothingToExport(
            "BoAmps requires the kind of infrastructure, which config.yaml does not declare: add "
            "place: {infrastructure: onPremise} (or publicCloud, privateCloud, other)"
        )
    for cell in study.cells:
        for job in cell.jobs:
            name = f"inference-{job.point}" if job.point else "training"
            if problem := _lack(job):
                left_out.add(f"the report of {cell.cell}, {name}", problem)
                continue
            yield f"{cell.cell}/{name}.json", _checked(report(study, cell, job, now, left_out))


def report(
    study: StudyFacts, cell: CellFacts, job: JobFacts, now: datetime, left_out: LeftOut
) -> KnownFacts:
    """Make the report of one job whose energy is known."""
    found: KnownFacts = without_unknown(
        {
            "header": _header(study, job, now, left_out),
            "task": _task(study, cell, job),
            "measures": [_measure(job)],
            "software": {"language": "python", "version": version_of(job, "python")},
            "infrastructure": _infrastructure(study, job),
            "environment": _environment(study, left_out),
        }
    )
    return found


def _lack(job: JobFacts) -> str | None:
    """Say why there can be no report of a job, None if there can."""
    if energy_sentence(job) is None:
        return "its energy is not known (watts_per_core in config.yaml allows an estimate on a CPU)"
    if not hardware(job):
        return "its artefact does not say on which hardware, or its attempts differ in it"
    return None


def _checked(found: KnownFacts) -> KnownFacts:
    if problems := boamps_problems(found):
        raise RuntimeError(f"a report is not BoAmps {VERSION}: {'; '.join(problems)}")
    return found


def _header(study: StudyFacts, job: JobFacts, now: datetime, left_out: LeftOut) -> KnownFacts:
    declared = study.declared
    organization = (declared.get("author") or {}).get("organization")
    publisher: KnownFacts = {}
    if "confidentiality" in declared:
        publisher = {
            "name": organization,
            "projectName": study.title,
            "confidentialityLevel": declared["confidentiality"],
        }
    else:
        left_out.add(
            "header.publisher", "declare export: {confidentiality: ...} in the study's file"
        )
    return {
        "formatVersion": VERSION,
        "formatVersionSpecificationUri": SPECIFICATION,
        "reportId": str(uuid.uuid5(uuid.NAMESPACE_URL, _content(job))),
        "reportDatetime": now.strftime(DATE_FORMAT),
        "publisher": publisher,
    }


def _content(job: JobFacts) -> str:
    """Name what a report speaks of: the same results have the same report's id."""
    stamps = (job.made.get("provenance") or {}, job.energy.get("provenance") or {})
    return " ".join(
        [str(job.row["cell"]), str(job.point), *(str(one.get("content_sha256")) for one in stamps)]
    )


def _task(study: StudyFacts, cell: CellFacts, job: JobFacts) -> KnownFacts:
    row, accuracy = job.row, None
    if job.point and row.get("score_name") == "accuracy" and "score" in row:
        accuracy = row["score"] / FULL_ACCURACY
    return {
        "taskStage": _stage(cell, job),
        "taskFamily": "textClassification" if cell.dataset["classifies"] else "textGeneration",
        "nbRequest": job.made.get("samples") if job.point else None,
        "algorithms": _algorithms(study, cell, job),
        "dataset": _data(cell, job),
        "measuredAccuracy": accuracy,
        "taskDescription": _description(study, cell, job),
    }


def _stage(cell: CellFacts, job: JobFacts) -> str:
    if job.point:
        return "inference"
    return "finetuning" if base_model(cell.model) else "training"


def _algorithms(study: StudyFacts, cell: CellFacts, job: JobFacts) -> list[KnownFacts]:
    first = job.row.get("cascade_first")
    entries = [cell.model]
    if first:  # a cascade's first model answers before this one
        entries.insert(0, study.current.stages.study["models"][_model_of(study, first)])
    found = [_algorithm(entry, job) for entry in entries]
    if job.point is None and cell.training:
        found[-1] |= _training(cell.training)
    if "parameters" in job.row:  # of the row's own model
        found[-1]["parametersNumber"] = job.row["parameters"] / BILLION
    return found


def _model_of(study: StudyFacts, cell: str) -> str:
    return study.current.stages.cell(cell).model


def _algorithm(entry: KnownFacts, job: JobFacts) -> KnownFacts:
    base, repository = base_model(entry), base_model(entry).get("repository")
    return {
        "algorithmType": "neuralNetwork",
        "algorithmName": None if base else "transformer",
        "foundationModelName": base.get("name"),
        "foundationModelUri": f"{HUB}/{repository}" if repository else None,
        "framework": "pytorch",
        "frameworkVersion": version_of(job, "torch"),
        "quantization": (job.settings.get("budget") or {}).get("precision"),
    }


def _training(job: JobFacts) -> KnownFacts:
    training = job.settings.get("training") or {}
    return {
        "trainingType": "supervisedLearning",
        "epochsNumber": job.made.get("epochs"),
        "optimizer": "adamW" if "adam_beta1" in training else None,
    }


def _data(cell: CellFacts, job: JobFacts) -> list[KnownFacts]:
    """Describe what a job read and, of an inference, what it wrote."""
    repository = cell.dataset["repository"]
    split = "train" if job.point is None else None
    examples = (cell.brought.get("splits") or {}).get(split or "", {}).get("examples")
    texts = {
        "dataUsage": "input",
        "dataType": "text",
        "dataQuantity": job.made.get("samples") if job.point else examples,
        "sourceUri": f"{HUB}/datasets/{repository}" if repository else None,
    }
    read, wrote = job.made.get("input_tokens"), job.made.get("output_tokens")
    tokens = {"dataUsage": "input", "dataType": "token", "dataQuantity": read}
    out = {"dataUsage": "output", "dataType": "token", "dataQuantity": wrote}
    return [texts, *([tokens] if is_known(read) else []), *([out] if is_known(wrote) else [])]


def _description(study: StudyFacts, cell: CellFacts, job: JobFacts) -> str:
    what = f"inference point {job.point}" if job.point else "training, validations included"
    before = " (the model before training)" if job.before_training else ""
    said = [f"{cell.heading}: {what}{before}. Study: {study.title}."]
    adaptation = job.row.get("adaptation")
    if adaptation and not job.before_training:
        said.append(f"Trained weights: {adaptation}.")
    if job.point and "score" in job.row:
        row = job.row
        score = with_interval(row["score"], row.get("score_ci_low"), row.get("score_ci_high"))
        split = (job.settings.get("inference") or {}).get("split")
        where = f" of the split {split}" if split else ""
        said.append(f"Score: {row['score_name']} {score} on {row['examples']} examples{where}.")
    return " ".join([*said, energy_sentence(job) or ""]).strip()


def _measure(job: JobFacts) -> KnownFacts:
    source = job.column("energy_source")
    utilization = None if job.point else job.row.get("mean_gpu_utilization_pct")
    began = datetime.fromtimestamp(job.began, UTC).strftime(DATE_FORMAT) if job.began else None
    return {
        "measurementMethod": ESTIMATING if source == ESTIMATE else METHOD,
        "version": (job.energy.get("provenance") or {}).get("longwatt"),
        "cpuTrackingMode": CPU_MODES.get(source),
        "gpuTrackingMode": GPU_MODES.get(source),
        "averageUtilizationGpu": None if utilization is None else utilization / 100,
        "powerConsumption": job.column("energy_kwh"),
        "measurementDuration": job.column("runtime_s"),
        "measurementDateTime": began,
    }


def _infrastructure(study: StudyFacts, job: JobFacts) -> KnownFacts:
    place = study.place
    return {
        "infraType": place["infrastructure"],
        "cloudProvider": place.get("cloud_provider"),
        "cloudInstance": place.get("cloud_instance"),
        "components": [_component(one) for one in hardware(job)],
    }


def _component(one: KnownFacts) -> KnownFacts:
    name: Any = one["name"]
    if one["kind"] == "cpu":
        name = f"{name or 'processor'}, threads that computed"
    return {"componentName": name, "componentType": one["kind"], "nbComponent": one["count"]}


def _environment(study: StudyFacts, left_out: LeftOut) -> KnownFacts:
    place = study.place
    if "country" not in place:
        left_out.add("environment", "declare place: {country: ...} in config.yaml")
        return {}
    if "grams_per_kwh" not in study.carbon:
        left_out.add(
            "environment.powerSourceCarbonIntensity", "declare carbon: {...} in config.yaml"
        )
    return {
        "country": place["country"],
        "location": place.get("location"),
        "powerSourceCarbonIntensity": study.carbon.get("grams_per_kwh"),
    }
