"""Refusals at a start say where they looked and what would do."""

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.hub import checkpoints
from longwatt.startup import checks
from longwatt.startup.checks import check_budgets, check_container, check_sources
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages
from tests.conftest import TINY_STUDY

NEEDLE = TINY_STUDY[TINY_STUDY.index("  needle:") : TINY_STUDY.index("tokenizers:")]
OWN = """  needle:
    source: jsonl
    options: {files: {train: data/train.jsonl, validation: PLACE/validation.jsonl}}
    metric: f1
    training: {max_target_tokens: 8}
"""


@pytest.fixture
def read(tmp_path, study_schema, monkeypatch):
    """Reads the tiny study, changed, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def reader(old: str, new: str) -> Stages:
        assert old in TINY_STUDY
        (tmp_path / "tiny.yaml").write_text(TINY_STUDY.replace(old, new))
        return checked_stages("tiny", read_study(tmp_path / "tiny.yaml", study_schema), {})

    return reader


def refusal(stages: Stages) -> str:
    with pytest.raises(StudyError) as refused:
        check_sources(stages)
    return str(refused.value)


def test_a_missing_relative_file_is_refused_with_the_folder_it_was_looked_for_in(read, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text("{}\n")
    said = refusal(read(NEEDLE, OWN.replace("PLACE", "data")))
    assert "datasets.needle: data/validation.jsonl does not exist" in said
    assert said.endswith(f"begin in {tmp_path}, where there is no data/validation.jsonl")
    said = refusal(read(NEEDLE, OWN.replace("PLACE", "/nowhere")))
    assert "/nowhere/validation.jsonl does not exist" in said and "relative" not in said


def test_a_missing_model_is_refused_with_the_folder_it_was_looked_for_in(read, tmp_path):
    checkpoint = "initialisation: checkpoint\n    path: models/led"
    stages = read("initialisation: random", checkpoint)
    there = f"relative paths begin in {tmp_path}, where there is no models/led"
    assert refusal(stages).endswith(f"it has no config.json; {there}")
    (tmp_path / "models/led").mkdir(parents=True)
    assert refusal(stages).endswith("it has no config.json"), "the folder is there"


def test_a_decoder_only_checkpoint_as_an_encoder_decoder_is_sent_to_its_family(read, tmp_path):
    folder = tmp_path / "models/own"
    folder.mkdir(parents=True)
    other = "family: seq2seq\n    initialisation: checkpoint\n    path: models/own"
    change = ("family: led\n    initialisation: random", other)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(StudyError, match=r"models\.led\.family: .* say `family: causal`"):
        read(*change)
    bart = '{"architectures": ["BartForCausalLM"], "is_encoder_decoder": true}'
    (folder / "config.json").write_text(bart)
    assert read(*change).cells, "a whole BART may have been saved so"


def test_a_cell_that_wants_a_gpu_where_there_is_none_is_told_of_the_cpu(read):
    with pytest.raises(StudyError, match=r"needs 1 GPU.*limit is 0.*`gpus: 0` is the CPU"):
        check_budgets(read("gpus: 0", "gpus: 1"), 0)


def test_requirements_that_a_message_names_are_those_of_the_installed_files(
    read, monkeypatch, tmp_path
):
    said = f"pip install -r {checkpoints.PROJECT}/envs/requirements-causal.txt"
    monkeypatch.setattr(checks, "_sources", lambda _: iter([("datasets.needle", "nowhere", said)]))
    monkeypatch.setattr("longwatt.shipped.ROOT", tmp_path / "site/workflow_files")
    expected = f"pip install -r {tmp_path}/site/workflow_files/envs/requirements-causal.txt"
    assert expected in refusal(read("title: Tiny", "title: Tiny"))


@pytest.mark.parametrize(("image", "said"), [(None, "names no image"), ("own.sif", "there is no ")])
def test_jobs_for_a_container_without_an_image_do_not_run_outside_one(read, image, said):
    stages = read("Tiny", "Tiny")
    stages.machine = {"container": image}
    with pytest.raises(StudyError, match=f"^config.yaml: container: {said}.*--sdm apptainer out$"):
        check_container(stages, wanted=True)
    check_container(stages, wanted=False)


@pytest.mark.parametrize("image", ["docker://name/of:1.0", "own.sif"])
def test_an_image_that_is_here_or_elsewhere_will_do(read, tmp_path, image):
    stages = read("Tiny", "Tiny")
    (tmp_path / "own.sif").touch()
    stages.machine = {"container": image}
    check_container(stages, wanted=True)
