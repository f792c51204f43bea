"""A worker's start and end: no collector while it imports, nothing taken apart at its end."""

import atexit
import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from longwatt.jobs import start as start_of_jobs
from longwatt.jobs.start import put_off

WORKER = """
import atexit, gc, json, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from longwatt.jobs.worker import run_worker

collected_while_imported = gc.isenabled()
atexit.register(print, "let go")
held = tempfile.TemporaryDirectory()


class Told:
    def __del__(self):
        print("taken apart")


told = Told()


def work(spec):
    print(f"{collected_while_imported} {gc.isenabled()} {gc.get_freeze_count() > 10_000}")
    print(sys.argv[1:], held.name)
    ThreadPoolExecutor().submit(int).result()  # its threads wait for more until they are told
    threading.Thread(target=lambda: (time.sleep(0.3), print("written"))).start()
    if spec.settings["fail"]:
        raise ValueError("no luck")


if __name__ == "__main__":
    run_worker(work)
"""
SPEC = """{"settings": {"fail": %s, "budget": {"gpus": 0}}, "paths": {}, "identity": {},
           "provenance": {}, "error": "%s/error.json"}"""


@pytest.fixture
def run(tmp_path):
    """Run a worker that fails or not."""
    (tmp_path / "stand_in.py").write_text(WORKER)

    def start(fail: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "it.spec").write_text(SPEC % (fail, tmp_path))
        paths = os.pathsep.join([str(tmp_path), *sys.path])
        return subprocess.run(
            [sys.executable, "-m", "longwatt.jobs.start", "stand_in", str(tmp_path / "it.spec")],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
        )  # fmt: skip

    return start


def test_a_worker_imports_without_the_collector_and_works_with_it(run, tmp_path):
    done = run("false")
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "False True True"
    assert second.startswith(str([str(tmp_path / "it.spec")]))


def test_a_worker_ends_without_being_taken_apart_but_leaves_no_files(run):
    _, second, *_, last = run("false").stdout.splitlines()
    assert last == "let go"
    assert not Path(second.split()[-1]).exists(), "its temporary folder is removed"


def test_a_worker_ends_after_its_threads_and_before_its_exit_functions(run):
    done = run("false")
    assert done.returncode == 0 and done.stdout.splitlines()[2:] == ["written", "let go"]


@pytest.mark.parametrize("owner, name", [(atexit, "_run_exitfuncs"), (threading, "_shutdown")])
def test_a_python_without_the_means_ends_as_ever(monkeypatch, owner, name):
    for other in ((atexit, "_run_exitfuncs"), (threading, "_shutdown")):
        monkeypatch.setattr(*other, lambda: pytest.fail("half an end"))
    monkeypatch.delattr(owner, name)
    with pytest.raises(SystemExit) as ended:
        start_of_jobs.end()
    assert not ended.value.code


def test_a_worker_that_fails_ends_as_ever(run, tmp_path):
    done = run("true")
    assert done.returncode == 1 and "ValueError: no luck" in done.stderr
    assert "no luck" in (tmp_path / "error-0.json").read_text()


NAME = "a_library_to_put_off"
FILES = {
    "__init__.py": """
import os
print("loaded")
from .part import Thing
if os.environ.get("BROKEN") == "import":
    import a_library_that_is_nowhere
if os.environ.get("BROKEN") == "attribute":
    os.absent
value = 7
""",
    "part.py": "print('part')\nfrom . import other\nclass Thing: pass\n",
    "other.py": "from .part import __name__ as cause\n",
    "alone.py": "from . import value\nfrom .part import Thing\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library that says when it is loaded."""
    (tmp_path / NAME).mkdir()
    for name, text in FILES.items():
        (tmp_path / NAME / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    put_off(NAME)
    yield NAME
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


LOADED = "loaded\npart\n"


def test_a_library_that_is_put_off_is_loaded_when_it_is_used(library, capsys):
    module = importlib.import_module(library)
    assert capsys.readouterr().out == ""
    assert module.value == 7 and capsys.readouterr().out == LOADED
    assert not hasattr(module, "absent") and capsys.readouterr().out == ""
    assert "__getattr__" not in vars(module)


@pytest.mark.parametrize("part", ["part", "other", "alone"])
def test_a_module_inside_may_be_imported_first_and_is_made_once(library, capsys, part):
    found = importlib.import_module(f"{library}.{part}")
    package = sys.modules[library]
    assert capsys.readouterr().out == LOADED
    assert found is sys.modules[f"{library}.{part}"] is getattr(package, part)
    assert sys.modules[f"{library}.part"].Thing is package.Thing
    assert importlib.reload(found) is found
    assert found.__spec__.origin == found.__file__ and found.__spec__.loader is found.__loader__


def test_a_module_that_is_nowhere_inside_is_said_to_be_absent(library):
    with pytest.raises(ModuleNotFoundError, match=rf"{library}\.nowhere"):
        importlib.import_module(f"{library}.nowhere")


@pytest.mark.parametrize("broken, said", [("import", "is_nowhere"), ("attribute", "'absent'")])
def test_a_library_that_cannot_be_loaded_says_why_at_every_use(
    library, monkeypatch, broken, said
):  # fmt: skip
    monkeypatch.setenv("BROKEN", broken)
    module = sys.modules[library]
    for _ in range(2):
        with pytest.raises(ImportError, match=said):
            hasattr(module, "value")
        with pytest.raises(ImportError, match=said):
            importlib.import_module(f"{library}.alone")
    monkeypatch.delenv("BROKEN")
    assert module.value == 7, "it is tried again"


def test_threads_that_use_a_library_at_once_load_it_once(library, capsys):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(sys.modules[library].value)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 4 and capsys.readouterr().out == LOADED


def test_a_library_that_is_absent_or_loaded_stays_so(library):
    put_off("a_library_that_is_nowhere")
    assert "a_library_that_is_nowhere" not in sys.modules
    before = sys.modules["json"] if "json" in sys.modules else __import__("json")
    put_off("json")
    assert sys.modules["json"] is before


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({"model": {"family": "causal", "lora": {"rank": 4}}}, True),
        ({"lora": True, "family": "causal"}, True),
        ({"model": {"family": "led"}}, False),
        ({"family": "led", "attention": "fast"}, False),
    ],
)
def test_only_jobs_of_models_with_adapters_find_their_library(tmp_path, settings, there):
    spec = tmp_path / "it.spec"
    spec.write_text(json.dumps({"settings": settings}))
    code = f"""
from pathlib import Path
from importlib.util import find_spec
from longwatt.jobs.start import hide_adapters
hide_adapters(Path({str(spec)!r}))
print(find_spec("peft") is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{there}\n"
