"""The package's layers: what may import what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow" / "lib" / "longwatt"
FILES = sorted(PACKAGE.rglob("*.py"))
PARSE_TIME = (
    "study", "cells", "settings", "claim_settings", "provenance", "stages", "models", "datasets", "runtime_model",
    "priorities", "published", "displays", "hyperparameters", "hub", "hub_requests",
    "data_sizes", "shapes", "training_work", "summary_file",
    "expansion", "search", "exit_rules", "asked", "start_checks", "study_checks",
    "canonical", "machine_settings", "yaml_values", "in_force", "outdated",
    "execution", "waiting", "endings",
)  # fmt: skip
NO_TORCH = (
    "metrics", "summary", "figures", "tables", "claim_pages", "scoring", "status", "partial", "tokenization",
    "tokenizer_files", "pretrained", "vocabulary", "plan_report", "models.parameter_counts", "compare_report",
    "temperatures", "calibration", "exit_comparison", "exits", "exit_figures",
)  # fmt: skip
HEAVY = {"torch", "transformers", "datasets", "pandas", "numpy", "matplotlib", "seaborn", "tokenizers", "pynvml"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); import longwatt.{module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", PARSE_TIME)
def test_what_the_snakefile_imports_is_light(module):
    assert loaded_by(module).isdisjoint(HEAVY)


@pytest.mark.parametrize("module", NO_TORCH)
def test_scoring_and_figures_never_load_torch(module):
    assert "torch" not in loaded_by(module)


def test_what_names_checkpoints_and_fetches_files_needs_no_model():
    """These lie below the models, which they serve as they serve tokenizers and data."""
    for name in ("pretrained", "hub", "hub_requests"):
        assert not any(found.startswith("longwatt.models") for found in imports(PACKAGE / f"{name}.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_reaches_out_of_its_house(path):
    names = {name.split(".")[0] for name in imports(path)}
    assert "snakemake" not in names
    assert path.stem not in {"utils", "helpers", "misc"}
    constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    # Commands that people run beside Snakemake judge results by the machine's configuration too.
    assert "config.yaml" not in constants or path.name == "in_force.py"


def test_only_gpus_and_energy_touch_the_driver():
    allowed = {"gpus.py", "energy/nvml.py"}
    found = {str(p.relative_to(PACKAGE)) for p in FILES if "pynvml" in imports(p)}
    assert found <= allowed


def test_scripts_only_declare(root):
    for script in (root / "workflow/scripts").glob("*.py"):
        text = script.read_text()
        assert len(text.splitlines()) <= 36, script
        assert 'if __name__ == "__main__":' in text, script
        assert "snakemake.config" not in text and "__future__" not in text, script
        assert not any("scripts" in name for name in imports(script)), script


def test_every_rule_has_its_script_and_every_script_its_rule(root):
    rules = "\n".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    for script in (root / "workflow/scripts").glob("*.py"):
        assert f"rule {script.stem}:" in rules
        assert f'"../scripts/{script.name}"' in rules


def test_the_conda_environment_repeats_the_pins(root):
    def pins(text: str) -> set[str]:
        return {line.strip(" -") for line in text.splitlines() if "==" in line and not line.strip().startswith("#")}

    requirements = pins((root / "envs/requirements.txt").read_text())
    assert pins((root / "envs/longwatt.yaml").read_text()) == requirements
    constraints = pins((root / "envs/constraints.txt").read_text())
    pinned = {line.split("==")[0].split("[")[0].lower().replace("_", "-"): line.split("==")[1] for line in requirements}
    for line in constraints:
        name, version = line.split("==")
        assert pinned.get(name.lower().replace("_", "-"), version) == version, line


def test_contributing_names_every_module(root):
    """The table of modules is where newcomers look; a module that it lacks is found by nobody."""
    table = (root / "CONTRIBUTING.md").read_text()
    package = root / "workflow/lib/longwatt"
    modules = {path.stem for folder in (package, package / "energy") for path in folder.glob("*.py")}
    assert sorted(name for name in modules if name[0] != "_" and f"`{name}`" not in table) == []
