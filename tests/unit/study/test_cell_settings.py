"""Settings of cells that are merged once for many must be what each cell's own merging gives."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from bench.dag import study_text

from longwatt.config.studies import read_study
from longwatt.study import settings
from longwatt.study.cascade_cells import with_first
from longwatt.study.cell_settings import CellSettings
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages

STUDIES = sorted(path.stem for path in (Path(__file__).parents[3] / "studies").glob("*.yaml"))


def mixed_text() -> str:
    """A study whose settings differ along every axis, with probes and tables by length."""
    document = yaml.safe_load(study_text(100))
    table = {
        f"led{n}": {str(length): n + length for length in (32, 64, 128, 256, 512)} for n in range(5)
    }
    table["led0"] = dict.fromkeys(table["led0"], "largest")
    document["budgets"]["gpu2"] = {"gpus": 2, "per_device_batch_size": table, "precision": "bf16"}
    document["grid"][0] |= {
        "budgets": ["cpu", "gpu2"],
        "protocols": ["generated", "teacher_forced"],
    }
    document["inference"]["beam"] = {"split": "test", "generation": {"num_beams": 4}}
    document["models"]["led3"]["training"] = {"learning_rate": 3e-5}
    document["datasets"]["needle1"]["generation"] = {"max_new_tokens": 5}
    document["scoring"] = {"seed": 7}
    return yaml.safe_dump(document)


def agree(made: Stages) -> None:
    """Compare by `repr`, as Snakemake compares parameters: the order of keys counts too."""
    for name, cell in made.cells.items():
        assert repr(made.finetune(name).settings) == repr(
            settings.finetune_settings(made.study, cell)
        )
        for point in made.points(name):
            predicted = settings.predict_settings(made.study, cell, point)
            if cascade := made.cascade(point):
                name_of_first = made.first(name, point)
                own = settings.predict_settings(made.study, made.cell(name_of_first), point)
                predicted = with_first(predicted, own, name_of_first, cascade)
            scored = settings.score_settings(made.study, cell, point)
            assert repr(made.predict(name, point).settings) == repr(predicted)
            assert repr(made.score(name, point).settings) == repr(scored)


@pytest.mark.parametrize("name", STUDIES)
def test_cells_of_shipped_studies_have_the_settings_of_their_own(name, root, study_schema):
    agree(checked_stages(name, read_study(root / f"studies/{name}.yaml", study_schema), {}))


def test_cells_that_differ_along_every_axis_have_the_settings_of_their_own(tmp_path, study_schema):
    path = tmp_path / "mixed.yaml"
    path.write_text(mixed_text())
    made = checked_stages("mixed", read_study(path, study_schema), {})
    assert made.probes, "some batch sizes must be found out"
    agree(made)


def test_settings_are_merged_no_oftener_for_more_seeds(monkeypatch, tmp_path, study_schema):
    called = Counter()

    def counted(name):
        plain = getattr(settings, name)
        return lambda *given: called.update([name]) or plain(*given)

    names = ("finetune_settings", "predict_settings", "score_settings")
    for name in names:
        monkeypatch.setattr(settings, name, counted(name))
    merged = []
    for cells in (50, 250):
        path = tmp_path / f"scale{cells}.yaml"
        path.write_text(study_text(cells))
        called.clear()
        made = checked_stages("scale", read_study(path, study_schema), {})
        assert len(list(made.all())) > 5 * cells
        merged.append(called.copy())
    assert merged[0] == merged[1] and merged[0]["finetune_settings"] > 0


def test_a_study_of_many_cells_reads_each_cells_own_values(tmp_path, study_schema):
    path = tmp_path / "scale.yaml"
    path.write_text(study_text(100))
    made = checked_stages("scale", read_study(path, study_schema), {})
    held = {
        (s["seq_len"], s["seed"]) for s in (made.finetune(name).settings for name in made.cells)
    }
    assert len(held) == 10, "five lengths, two seeds"
    assert CellSettings(made.study).finetune(next(iter(made.cells.values())))["seed"] == 1
