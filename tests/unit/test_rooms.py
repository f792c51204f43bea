"""The rooms of the package: what may import what, and what stays light.

ROOMS lists them from the ground up. A room imports itself and the rooms before it in this list.
"""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

LIB = ROOT / "workflow" / "lib"
PACKAGE = LIB / "longwatt"
GROUND = "ground floor"
ROOMS = (
    GROUND, "provenance", "hub", "gpus", "energy", "layout", "config", "datasets", "tokens",
    "metrics", "models", "study", "jobs", "freshness", "results", "inference", "training", "exits",
    "cascades", "compare", "answer", "report", "plan", "watch", "startup", "exports",
    "readiness", "first_study",
    "commands",
)  # fmt: skip
# Every process of Snakemake imports these, on every node.
LIGHT = {GROUND, "provenance", "hub", "gpus", "config", "study", "freshness", "watch", "startup"}
LIGHT_FACES = (
    "datasets", "models", "models.family", "plan.urgency", "plan.cell_cores", "jobs.waiting",
    "jobs.pinning", "energy.meters.rapl", "energy.meters.processor", "energy.rated",
)  # fmt: skip
MAY_LOAD_TORCH = {"models", "jobs", "inference", "training"}
HEAVY = {
    "torch", "transformers", "datasets", "pandas", "numpy", "matplotlib", "seaborn", "tokenizers",
    "pynvml",
}  # fmt: skip
# Names that every source of data, family of models or command defines: their interfaces.
INTERFACES = {
    "CHANGES_NO_RESULT", "main", "FAMILY", "OPTIONS_SCHEMA", "read", "files", "local_files",
    "missing", "splits", "at_hand", "repository", "encode", "parser",
}  # fmt: skip
MOST_MODULES = 15


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(LIB).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def room_of(module: str) -> str:
    if module == "longwatt.__main__":  # the program itself, which stands on all rooms
        return ROOMS[-1]
    first = module.removeprefix("longwatt").lstrip(".").split(".")[0]
    return first if (PACKAGE / first).is_dir() and first else GROUND


def imports(module: str) -> set[str]:
    """The modules that a module names in its imports, wherever they stand."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in whole}
    return found


OURS = {module: (imports(module) & set(FILES)) - {"longwatt"} for module in FILES}


def test_every_room_is_in_the_list():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == set(ROOMS) - {GROUND}


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_its_own_room_and_those_below(module):
    allowed = ROOMS[: ROOMS.index(room_of(module)) + 1]
    assert {name for name in OURS[module] if room_of(name) not in allowed} == set()


def test_no_modules_import_each_other_in_a_circle():
    left = {module: set(names) for module, names in OURS.items()}
    while free := [module for module, names in left.items() if not names & set(left)]:
        for module in free:
            del left[module]
    assert sorted(left) == []


def test_no_folder_holds_more_modules_than_one_can_keep_in_mind():
    count = Counter(path.parent for path in FILES.values() if path.name != "__init__.py")
    assert {folder.name: n for folder, n in count.items() if n > MOST_MODULES} == {}


def defined(tree: ast.Module) -> set[str]:
    """The public names that a module itself defines."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            found |= {part.id for part in parts if isinstance(part, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_no_name_is_used_for_two_things():
    homes = defaultdict(list)
    for module, tree in TREES.items():
        for name in defined(tree) - INTERFACES:
            homes[name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_two_modules_differ_by_the_order_of_their_words():
    homes = defaultdict(list)
    for path in FILES.values():
        if not path.stem.startswith("_"):
            folder = path.relative_to(PACKAGE).parent.parts[-1:]
            homes[frozenset(w.removesuffix("s") for w in (*folder, *path.stem.split("_")))].append(
                name_of(path)
            )
    assert [sorted(names) for names in homes.values() if len(names) > 1] == []


def loaded_by(modules: list[str]) -> set[str]:
    """The libraries that one fresh process has loaded after these imports."""
    code = f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}]"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.split()}


def importable(rooms: set[str]) -> list[str]:
    return [name for name in FILES if room_of(name) in rooms and not name.endswith("__main__")]


def test_what_the_snakefile_imports_is_light():
    faces = [f"longwatt.{name}" for name in LIGHT_FACES]
    assert loaded_by([*importable(LIGHT), *faces]) & HEAVY == set()


def test_only_the_engine_loads_torch():
    assert "torch" not in loaded_by(importable(set(ROOMS) - MAY_LOAD_TORCH))
    for module in importable(set(ROOMS) - MAY_LOAD_TORCH):
        assert "torch" not in {name.split(".")[0] for name in imports(module)}, module


DRAWING = {"pandas", "numpy", "matplotlib", "seaborn"}
TABLES = {"pandas", "numpy"}
NUMBERS = {"numpy"}
# What the script of a rule may load before its work begins: every job of its kind pays for it.
# Scripts that are not named here load nothing that is heavy.
SCRIPTS_LOAD = {
    "calibrate": NUMBERS, "compare_exits": NUMBERS, "fit_cascade": NUMBERS,
    "judge_calibration": NUMBERS, "plan": NUMBERS, "score": NUMBERS, "summarize_energy": NUMBERS,
    "judge_claims": TABLES, "answer": TABLES, "summarize": TABLES, "tabulate": TABLES,
    "cascade": DRAWING, "compare": DRAWING, "partial": DRAWING, "plot": DRAWING,
    "plot_exits": DRAWING,
}  # fmt: skip
LIGHT_SCRIPT, WORKER = 300, 2800  # most modules, of which torch alone has 1,200
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
WORKERS = (
    "training.finetune", "training.probe_batch_size", "inference.predict", "inference.record_exits",
)  # fmt: skip


def modules_after(code: str) -> list[str]:
    """The modules that a fresh process has loaded after some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_job_begins_without_what_its_kind_of_work_does_not_need(script):
    body = ast.parse(script.read_text()).body
    loaded = modules_after(
        "\n".join(ast.unparse(n) for n in body if isinstance(n, ast.Import | ast.ImportFrom))
    )
    may = SCRIPTS_LOAD.get(script.stem, set())
    assert {name.split(".")[0] for name in loaded} & HEAVY == may
    assert len(loaded) <= LIGHT_SCRIPT or may & {"pandas"} or script.stem == "plan"


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_loads_what_models_need_and_no_library_of_tables(worker, tmp_path):
    started = "from longwatt.jobs import start\n[start.put_off(name) for name in start.PUT_OFF]\n"
    spec = tmp_path / "it.spec"
    spec.write_text('{"settings": {"model": {"family": "led"}}}')
    hidden = f"import pathlib\nstart.hide_adapters(pathlib.Path({str(spec)!r}))\n"
    loaded = modules_after(f"{started}{hidden}import longwatt.{worker}")
    assert {"torch", "transformers.modeling_utils"} <= set(loaded), "before its model is built"
    assert set(loaded) & {"pandas", "pyarrow", "datasets.arrow_dataset", "matplotlib"} == set()
    assert not any(name.startswith("peft.") for name in loaded), "only models with adapters need it"
    assert len(loaded) <= WORKER


@pytest.mark.parametrize("module", FILES)
def test_no_module_reaches_out_of_its_house(module):
    assert "snakemake" not in {name.split(".")[0] for name in imports(module)}
    assert FILES[module].stem not in {"utils", "helpers", "misc"}
    constants = {n.value for n in ast.walk(TREES[module]) if isinstance(n, ast.Constant)}
    # Commands that people run beside Snakemake judge results by the machine's configuration too.
    assert "config.yaml" not in constants or FILES[module].name == "in_force.py"


def test_only_gpus_and_energy_touch_the_driver():
    found = {module for module in FILES if "pynvml" in imports(module)}
    assert found == {"longwatt.gpus.listing", "longwatt.energy.meters.nvml"}


def test_unit_tests_follow_the_rooms():
    folders = {path.name for path in (ROOT / "tests/unit").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= {*ROOMS, "ground", "scheduler", "logger", "bench", "website"}


def test_contributing_describes_every_room():
    """The table of rooms is where newcomers look; a room that it lacks is found by nobody."""
    table = (ROOT / "CONTRIBUTING.md").read_text()
    assert [room for room in ROOMS if room != GROUND and f"`{room}/`" not in table] == []


def test_scripts_only_declare():
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        text = script.read_text()
        assert len(text.splitlines()) <= 36, script
        assert 'if __name__ == "__main__":' in text, script
        assert "snakemake.config" not in text and "__future__" not in text, script


def test_every_rule_has_its_script_and_every_script_its_rule():
    rules = "\n".join(p.read_text() for p in (ROOT / "workflow/rules").glob("*.smk"))
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        assert f"rule {script.stem}:" in rules
        assert f'"../scripts/{script.name}"' in rules


def test_the_conda_environment_repeats_the_pins():
    def pins(text: str) -> set[str]:
        lines = [line.strip() for line in text.splitlines()]
        told = (line.partition("  #")[0] for line in lines)
        return {line.strip(" -") for line in told if "==" in line and not line.startswith("#")}

    def name(line: str) -> str:
        return line.split("==")[0].split("[")[0].lower().replace("_", "-")

    requirements = pins((ROOT / "envs/requirements.txt").read_text())
    processors = pins((ROOT / "envs/requirements-processors.txt").read_text())
    assert pins((ROOT / "envs/longwatt.yaml").read_text()) == requirements | processors
    pinned = {name(line): line.split("==")[1] for line in requirements}
    for line in pins((ROOT / "envs/constraints.txt").read_text()):
        assert pinned.get(name(line), line.split("==")[1]) == line.split("==")[1], line
