"""The digest of code sees what changes a result, and neither places nor words."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from longwatt.files import PACKAGE
from longwatt.provenance.code import SAYING, Code, changes_no_result, code_digest

Files = Mapping[str, str]
MAIN = 'if __name__ == "__main__":\n'
BASE: Files = {
    "script": f'"""Do."""\nfrom longwatt import work\n\n{MAIN}    work.run("longwatt.worker")\n',
    "work": "from longwatt import deeper\nfrom longwatt.gpus import lease\n\nX = 1\n\n\n"
    'def run(name, some=()):\n    """Run."""\n    with lease():\n        if X > 0:\n'
    "            return deeper.f(X, *some)\n        raise ValueError(f'no {name}')\n",
    "deeper": "import math\nfrom os import path\n\n\n"
    "def f(x, y=2):\n    return _shown(math.log(x), y)\n\n\n"
    "def _shown(x, y):\n    return path.join(str(x), str(y))\n",
    "worker": f"def main():\n    return 3\n\n\n{MAIN}    main()\n",
    "gpus": f'{SAYING} = "It only waits."\n\n\ndef lease():\n    return "wait"\n',
    "twin": "def f(x, y=2):\n    return _shown(x + 1, y)\n\n\n"
    "def _shown(x, y):\n    return (x, y)\n",
    "models/__init__": "",
    "models/led": "W = 5\n",
    "unused": "Z = 4\n",
}


def digest_of(folder: Path, files: Files, *modules: str) -> str:
    """Digest the script of a small package in longwatt's place."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Code(folder).digest(folder / "script.py", modules)


def edited(name: str, old: str, new: str, files: Files = BASE) -> Files:
    assert old in files[name], (name, old)
    return {**files, name: files[name].replace(old, new)}


def moved(name: str, to: str, files: Files = BASE) -> Files:
    kept = {other: text for other, text in files.items() if other != name}
    return {**kept, to: files[name]}


def all_edited(files: Files, *changes: tuple[str, str, str]) -> Files:
    for change in changes:
        files = edited(*change, files)
    return files


SAME = {
    "a comment": edited("work", "X = 1", "X   =   1  # one"),
    "a docstring": edited("work", '"""Run."""', '"""Go."""'),
    "no docstring": edited("work", '    """Run."""\n', ""),
    "words of an error": edited("work", "f'no {name}'",
                                "f'there is no {name!r}; give another' + ' name'"),
    "a message elsewhere": edited("gpus", "wait", "waiting"),
    "another module": edited("unused", "Z = 4", "Z = 5"),
    "a module given by nobody": edited("models/led", "W = 5", "W = 6"),
    "what other modules may import": edited("worker", "def main",
                                            '__all__ = ["main"]\n\n\ndef main'),
    "a module in a folder": edited(
        "work", "from longwatt import deeper", "from longwatt.rooms import deeper",
        moved("deeper", "rooms/deeper"),
    ),
    "a module renamed in a folder": all_edited(
        moved("deeper", "rooms/below"),
        ("work", "from longwatt import deeper", "from longwatt.rooms import below"),
        ("work", "deeper.f", "below.f"),
    ),
    "a module under another name": all_edited(
        BASE, ("work", "from longwatt import deeper", "import longwatt.deeper as d"),
        ("work", "deeper.f", "d.f"),
    ),
    "a worker that is launched by name": edited("script", "longwatt.worker", "longwatt.a.b",
                                                moved("worker", "a/b")),
    "a worker that is a package": edited(
        "script", "longwatt.worker", "longwatt.a", moved("worker", "a/__init__")
    ),
    "a module that changes no result": edited("work", "longwatt.gpus", "longwatt.a.leases",
                                              moved("gpus", "a/leases")),
    "an import at the place of use": all_edited(
        BASE,
        ("work", "from longwatt import deeper\n", ""),
        ("work", "        if X > 0", "        from longwatt import deeper\n\n        if X > 0"),
    ),
    "an import of two": all_edited(
        BASE,
        ("work", "from longwatt import deeper\nfrom longwatt.gpus import lease",
         "from longwatt import deeper, gpus"),
        ("work", "with lease", "with gpus.lease"),
        ("work", "deeper, gpus", "gpus, deeper"),
        ("work", "from longwatt import gpus, deeper",
         "from longwatt import deeper\nfrom longwatt.gpus import lease"),
        ("work", "with gpus.lease", "with lease"),
    ),
    "sorted imports": edited("deeper", "import math\nfrom os import path",
                             "from os import path\nimport math"),
    "an import for type checkers": edited(
        "work", "X = 1",
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from longwatt.deeper import f\nX = 1",
    ),
    "a definition at another place": {
        **BASE,
        "worker": f"{MAIN}    main()\n\n\ndef main():\n    return 3\n",
    },
    "a definition in a module of its own": {
        **BASE,
        "deeper": "import math\n\nfrom longwatt.shown import _shown\n\n\ndef f(x, y=2):\n"
        "    return _shown(math.log(x), y)\n",
        "shown": "from os import path\n\n\n"
        "def _shown(x, y):\n    return path.join(str(x), str(y))\n",
    },
    "two modules in one": {
        **BASE,
        "deeper": BASE["deeper"] + "\n\ndef main():\n    return 3\n",
        "worker": f"from longwatt.deeper import main\n\n{MAIN}    main()\n",
    },
    "a package that speaks for a module": {
        **edited("work", "import deeper", "import rooms as deeper", moved("deeper", "rooms/d")),
        "rooms/__init__": 'from longwatt.rooms.d import f\n\n__all__ = ["f"]\n',
    },
}  # fmt: skip


@pytest.fixture
def base(tmp_path) -> str:
    return digest_of(tmp_path / "base", BASE)


@pytest.mark.parametrize("change", SAME)
def test_places_and_words_do_not_count(tmp_path, base, change):
    if change == "an import for type checkers":  # `typing` is one more library
        files = edited("work", "X = 1", "from typing import TYPE_CHECKING\nX = 1")
        base = digest_of(tmp_path / "base", files)
    assert digest_of(tmp_path / "other", SAME[change]) == base


def test_a_file_beside_a_module_that_names_it_counts(tmp_path):
    files = edited("deeper", "y=2", "y='page.js'")
    absent = digest_of(tmp_path / "other", files)
    found = []
    for text in ("let a = 1", "let a = 1", "let a = 2"):
        digest_of(tmp_path / "other", files)
        (tmp_path / "other/page.js").write_text(text)
        found.append(Code(tmp_path / "other").digest(tmp_path / "other/script.py"))
    assert found[0] == found[1] and len({absent, *found}) == 3


OTHER = {
    "a constant": edited("work", "X = 1", "X = 2"),
    "a type": edited("work", "X = 1", "X = 1.0"),
    "a default": edited("deeper", "y=2", "y=3"),
    "a branch": edited("work", "X > 0", "X >= 0"),
    "the kind of an error": edited("work", "ValueError", "TypeError"),
    "a value that an error carries": edited(
        "work", "ValueError(f'no {name}')", "ValueError(f'no {name}', X)"
    ),
    "whether it is raised": edited("work", "raise ValueError", "print"),
    "a worker": edited("worker", "return 3", "return 4"),
    "what a worker runs": edited("worker", "    main()", "    main(), main()"),
    "another worker": edited("script", "longwatt.worker", "longwatt.unused"),
    "the script": edited("script", "work.run(", "work.run(1, "),
    "another library": edited("deeper", "import math", "import cmath as math"),
    "another thing of a library": edited(
        "deeper", "from os import path", "from os import sep as path"
    ),
    "a library more": edited("deeper", "import math", "import math\nimport warnings"),
    "a module that says no more that it changes no result": edited("gpus", SAYING, "REASON"),
    "a module that says so without a reason": edited("gpus", '"It only waits."', '""'),
    "a module that says so in words": edited(
        "gpus", f'{SAYING} = "It only waits."', f'"""\n{SAYING} = "x"\n\n"""'
    ),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_can_change_a_result_counts(tmp_path, base, change):
    assert digest_of(tmp_path / "other", OTHER[change]) != base


TWINS = {
    **BASE,
    "script": "from longwatt import deeper, twin\n\nA = deeper.f\nB = twin._shown\n\n"
    f"{MAIN}    print(A(1), B(2, 3))\n",
}
STEPS = "\n\ndef g():\n    return h()\n\n\ndef h():\n    return _shown(1, 2)\n"
FAR = {**TWINS, "deeper": TWINS["deeper"] + STEPS, "twin": TWINS["twin"] + STEPS}
VARIABLES = "from longwatt import gpus, waits\n\n\ndef main(gpus, waits):\n    return ???.absent\n"
PAIRS: dict[str, tuple[Files, Files]] = {
    "the same name of another module": (
        TWINS, edited("script", "A = deeper.f", "A = twin.f", TWINS),
    ),
    "a name imported from another module": (
        edited("script", "A = deeper.f", "from longwatt.deeper import f\nA = f", TWINS),
        edited("script", "A = deeper.f", "from longwatt.twin import f\nA = f", TWINS),
    ),
    "which of two modules is asked": (
        edited("script", "A = deeper.f\nB = twin._shown", "A = deeper.f, twin.f, deeper.f", TWINS),
        edited("script", "A = deeper.f\nB = twin._shown", "A = deeper.f, twin.f, twin.f", TWINS),
    ),
    "a definition that means another thing elsewhere": (
        {**TWINS, "deeper": TWINS["deeper"] + "\n\ndef g():\n    return _shown(1, 2)\n"},
        {**TWINS, "twin": TWINS["twin"] + "\n\ndef g():\n    return _shown(1, 2)\n"},
    ),
    "what is three steps away": (
        edited("script", "A = deeper.f", "A = deeper.g", FAR),
        edited("script", "A = deeper.f", "A = twin.g", FAR),
    ),
    "which of two variables, where modules have their names": (
        {**BASE, "waits": BASE["gpus"], "worker": VARIABLES.replace("???", "gpus")},
        {**BASE, "waits": BASE["gpus"], "worker": VARIABLES.replace("???", "waits")},
    ),
    "one definition for two alike": (
        {**TWINS, **{n: TWINS[n] + "\n\nSEEN = {}\n" for n in ("deeper", "twin")}},
        {**TWINS, "deeper": TWINS["deeper"] + "\n\nSEEN = {}\n"},
    ),
    "the order of what a module does": (
        edited("work", "X = 1", "X = []\nX.append(1)\nX.append(2)"),
        edited("work", "X = 1", "X = []\nX.append(2)\nX.append(1)"),
    ),
    "when a value is taken": (
        edited("work", "X = 1", "X = []\nY = len(X)\nX.append(2)"),
        edited("work", "X = 1", "X = []\nX.append(2)\nY = len(X)"),
    ),
    "which value a name keeps": (
        edited("work", "X = 1", "X = 1\nX = 2"), edited("work", "X = 1", "X = 2\nX = 1"),
    ),
    "which library is tried first": (
        edited("deeper", "import math",
               "try:\n    import math\nexcept ImportError:\n    import cmath as math"),
        edited("deeper", "import math",
               "try:\n    import cmath as math\nexcept ImportError:\n    import math"),
    ),
    "which of two methods imports which": (
        {**BASE, "worker": "def main():\n    from longwatt.deeper import f\n\n    return f\n\n\n"
                           "def more():\n    from longwatt.twin import f\n\n    return f\n"},
        {**BASE, "worker": "def main():\n    from longwatt.twin import f\n\n    return f\n\n\n"
                           "def more():\n    from longwatt.deeper import f\n\n    return f\n"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_what_names_stand_for_counts(tmp_path, pair):
    one, other = PAIRS[pair]
    assert digest_of(tmp_path / "one", one) != digest_of(tmp_path / "other", other)


def test_modules_given_by_name_count_by_what_can_be_asked_of_them(tmp_path, base):
    led = digest_of(tmp_path / "led", BASE, "longwatt.models.led")
    assert led != base
    assert led == digest_of(
        tmp_path / "a", moved("models/led", "families/led"), "longwatt.families.led"
    )
    assert led != digest_of(
        tmp_path / "b", edited("models/led", "W = 5", "W = 6"), "longwatt.models.led"
    )
    # `FAMILY` is looked up in the module that is named, wherever it is defined.
    apart = {**BASE, "models/led": "from longwatt.kinds import W as V\n", "kinds": "W = 5\n"}
    assert led != digest_of(tmp_path / "c", apart, "longwatt.models.led")
    shared = {**BASE, "models/led": "from longwatt.kinds import W\n", "kinds": "W = 5\n"}
    assert led == digest_of(tmp_path / "d", shared, "longwatt.models.led")


@pytest.mark.parametrize("line", ["from longwatt.deeper import *", "from . import deeper"])
def test_imports_that_cannot_be_followed_are_refused(tmp_path, line):
    with pytest.raises(SyntaxError, match="line 1: import each name, from the full name"):
        digest_of(tmp_path / "other", edited("work", "from longwatt import deeper", line))


def test_a_digest_is_the_same_under_every_python(tmp_path):
    source = (
        "def f(a, *, b=1) -> str:\n    match a:\n"
        '        case {"x": [y, *_]} if (z := y):\n'
        '            return f"{z!r:>{b}} {{{a}}} \\U0001fae8" "tail"\n'
    )
    (tmp_path / "s.py").write_text(source)
    # The same under Python 3.11, 3.12 and 3.13. Were it to change, every finished cell would be
    # trained again.
    assert (
        code_digest(tmp_path / "s.py")
        == "e58ba32b0f39041b152354a91994a537e8bf1fa20116102229b051fb702e6cfd"
    )


# The real package, and edits of a copy of it.

FAMILIES = ("longwatt.models.led", "longwatt.models.early_exit")


@pytest.fixture(scope="module")
def scripts(root) -> list[Path]:
    return sorted((root / "workflow/scripts").glob("*.py"))


@pytest.fixture
def copy(tmp_path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "longwatt", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "longwatt"


def digests(package: Path, scripts: list[Path], *modules: str) -> dict[str, str]:
    code = Code(package)
    return {script.stem: code.digest(script, modules) for script in scripts}


@pytest.fixture(scope="module")
def before(scripts) -> dict[str, str]:
    """Digests of the package as it is."""
    return digests(PACKAGE, scripts)


@pytest.fixture(scope="module")
def before_families(scripts) -> dict[str, str]:
    """Digests of the package as it is, with model families behind every rule."""
    return digests(PACKAGE, scripts, *FAMILIES)


def users(package: Path, scripts: list[Path], name: str) -> set[str]:
    """The rules whose code a module is part of."""
    code = Code(package)
    return {script.stem for script in scripts if name in code.closure(script)}


def edit(package: Path, name: str, old: str, new: str) -> None:
    path = package / name
    assert path.read_text().count(old) == 1, (name, old)
    path.write_text(path.read_text().replace(old, new))


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {rule for rule in one if one[rule] != other[rule]}


# What is edited, and rules that must see it.
VALUES = {
    "training": (
        "training/ledger.py",
        "early: bool = False\n",
        "early: bool = True\n",
        {"finetune"},
    ),
    "inference": (
        "inference/batch_progress.py",
        "REPORT_EVERY_BATCHES = 10",
        "REPORT_EVERY_BATCHES = 9",
        {"predict", "record_exits"},
    ),
    "scoring": ("results/scoring.py", "100 * best_f1(", "100.0 * best_f1(", {"score"}),
    "reduction": (
        "energy/reduction/reduce.py",
        "J_PER_KWH = 3.6e6",
        "J_PER_KWH = 3.7e6",
        {"summarize_energy", "summarize"},
    ),
    "figures": ("report/energy_figures.py", "height=0.66", "height=0.67", {"plot"}),
}


@pytest.mark.parametrize("change", VALUES)
def test_a_changed_value_changes_exactly_the_rules_that_use_it(copy, scripts, before, change):
    name, old, new, seeing = VALUES[change]
    using = users(copy, scripts, "longwatt." + name.removesuffix(".py").replace("/", "."))
    edit(copy, name, old, new)
    assert differing(before, digests(copy, scripts)) == using >= seeing


def test_no_error_message_of_the_package_counts(copy, scripts, before_families):
    changed = 0
    for path in copy.rglob("*.py"):
        tree = ast.parse(path.read_text())
        raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise))
        for call in (one for one in raised if isinstance(one, ast.Call)):
            words = [
                isinstance(one, ast.JoinedStr) or isinstance(getattr(one, "value", 0), str)
                for one in call.args
            ]
            pairs = zip(call.args, words, strict=True)
            call.args, changed = (
                [ast.Constant("other words") if is_text else one for one, is_text in pairs],
                changed + sum(words),
            )
        path.write_text(ast.unparse(tree))  # comments and formatting are lost too
    assert changed > 150
    assert digests(copy, scripts, *FAMILIES) == before_families


def move_all(package: Path, scripts: list[Path], place: Callable[[str], str]) -> list[Path]:
    """Move every module that lies in no folder, with all that names it; return the new scripts."""
    homes = {p.stem: place(p.stem) for p in package.glob("*.py") if p.stem != "__init__"}
    new_scripts = [shutil.copy(path, package.parent / path.name) for path in scripts]
    for path in [*package.rglob("*.py"), *map(Path, new_scripts)]:
        path.write_text(_renamed(path.read_text(), homes))
    for name, home in homes.items():
        target = package.joinpath(*home.split(".")).with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").rename(target)
    return [Path(path) for path in new_scripts]


def _renamed(text: str, homes: Mapping[str, str]) -> str:
    """Import every module from its new place, one by one, each under its new name."""
    tree = ast.parse(text)
    given: dict[str, str] = {}
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                setattr(node, field, [new for one in body for new in _imports(one, homes, given)])
        if isinstance(node, ast.Constant) and str(node.value).removeprefix("longwatt.") in homes:
            said = str(node.value)
            if said.startswith("longwatt."):
                node.value = said.replace(said[9:], homes[said[9:]])
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in given
        ):
            node.value.id = given[node.value.id]
    return ast.unparse(tree)


def _imports(node: ast.stmt, homes: Mapping[str, str], given: dict[str, str]) -> list[ast.stmt]:
    if (
        not isinstance(node, ast.ImportFrom)
        or node.module is None
        or node.module.partition(".")[0] != "longwatt"
    ):
        return [node]
    parts = node.module.split(".")
    if len(parts) > 1:
        node.module = f"longwatt.{'.'.join([homes.get(parts[1], parts[1]), *parts[2:]])}"
        return [node]
    made: list[ast.stmt] = []
    for alias in node.names:
        home = homes.get(alias.name, alias.name)
        folder, _, name = f"longwatt.{home}".rpartition(".")
        if alias.asname is None and name != alias.name:
            given[alias.name] = name
        made.append(ast.ImportFrom(folder, [ast.alias(name, alias.asname)], 0))
    return made


@pytest.mark.parametrize(
    "place",
    [lambda name: f"rooms.{name}", lambda name: f"{name[0]}.{name}_1"],
    ids=["into a folder", "renamed too"],
)
def test_every_module_may_move_at_once(copy, scripts, before_families, place):
    there = move_all(copy, scripts, place)
    assert len(list(copy.glob("*.py"))) == 1
    assert digests(copy, there, *FAMILIES) == before_families


@pytest.mark.parametrize(
    "name",
    ["metric_words", "training/finetune", "training/trainer", "energy/flags", "models/early_exit"],
)
def test_a_module_of_the_package_may_be_split_in_two(copy, scripts, before_families, name):
    path, module = copy / f"{name}.py", f"longwatt.{name.replace('/', '.')}"
    _, *nodes = ast.parse(path.read_text()).body  # but for the docstring
    imports, body = (
        [node for node in nodes if _is_import(node)],
        [node for node in nodes if not _is_import(node)],
    )
    moving = [node for node in body if _defined(node)][::2]
    staying = [node for node in body if node not in moving]
    path.write_text(_half("longwatt.other_half", moving, [*imports, *staying]))
    (copy / "other_half.py").write_text(_half(module, staying, [*imports, *moving]))
    assert len(moving) > 2
    assert digests(copy, scripts, *FAMILIES) == before_families


def _half(other: str, there: list[ast.stmt], here: list[ast.stmt]) -> str:
    """Write a module of some statements of another, which imports from it all that it defines."""
    names = [name for node in there for name in _defined(node)]
    return f"from {other} import {', '.join(names)}\n" + ast.unparse(ast.Module(here, []))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        one.id
        for target in targets
        if target
        for one in ast.walk(target)
        if isinstance(one, ast.Name)
    ]


def _is_import(node: ast.stmt) -> bool:
    typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return typing or isinstance(node, ast.Import | ast.ImportFrom)


def test_a_module_that_changes_no_result_stays_out_by_what_it_says(copy, scripts, before):
    """Not by its name: it stays out under another one, and comes in without its reason."""
    there = move_all(copy, scripts, lambda name: "tidings" if name == "progress" else name)
    path = copy / "tidings.py"
    path.write_text(path.read_text() + "\n\nMORE = 1\n")
    assert digests(copy, there) == before
    path.write_text(re.sub(rf"^{SAYING} = .*$", "", path.read_text(), flags=re.MULTILINE))
    using = users(copy, there, "longwatt.tidings")
    assert {"finetune", "predict"} <= using < set(before)
    assert differing(before, digests(copy, there)) == using


@pytest.fixture
def modules(root) -> Callable[[str], set[str]]:
    """The modules of a rule's code."""
    code = Code(PACKAGE)
    return lambda rule: {
        name
        for name, path in code.closure(root / f"workflow/scripts/{rule}.py").items()
        if len(ast.parse(path.read_text()).body) > 1  # a room's face says only what it is
    }


def test_real_rules_see_what_they_must(modules):
    assert {
        "longwatt.training.finetune",
        "longwatt.training.sampling",
        "longwatt.metrics",
    } <= modules("finetune")
    assert {
        "longwatt.report.figures",
        "longwatt.gpus.leases",
        "longwatt.inference.predict",
    }.isdisjoint(modules("finetune"))
    assert "longwatt.training.finetune" not in modules("predict")
    assert {"longwatt.metrics", "longwatt.results.scoring"} <= modules("score")
    assert "longwatt.training.finetune" not in modules("score") | modules("plot")


def test_temperatures_rest_on_nothing_that_is_only_reported(modules):
    assert modules("calibrate") == {"longwatt.exits.temperatures", "longwatt.exits.logits"}, (
        "predictions follow each of them"
    )
    assert {"longwatt.exits.calibration", "longwatt.metrics.resampling"} <= modules(
        "judge_calibration"
    )
    assert "longwatt.exits.temperatures" not in modules("judge_calibration")


FETCHING = {
    f"longwatt.{name}"
    for name in (
        "hub.client",
        "hub.requests",
        "hub.checkpoints",
        "tokens.vocabulary",
        "tokens.tokenizers",
    )
}


@pytest.mark.parametrize(
    "rule", ["finetune", "probe_batch_size", "predict", "score", "tokenize_dataset"]
)
def test_how_files_are_fetched_is_no_part_of_what_is_made_from_them(rule, modules, root, copy):
    assert "longwatt.tokens.tokenize" in modules(rule) and modules(rule).isdisjoint(FETCHING)
    there = [root / f"workflow/scripts/{name}.py" for name in (rule, "make_tokenizer")]
    before = [Code(copy).digest(script) for script in there]
    for name in FETCHING:
        path = copy.joinpath(*name.split(".")[1:]).with_suffix(".py")
        path.write_text(path.read_text() + "\nEDITED = 1\n")
    after = [Code(copy).digest(script) for script in there]
    assert after[0] == before[0] and after[1] != before[1]


# One definition of each module that no digest holds.
DEFINES = {
    "config_of",
    "Damaged", "Code", "read_module", "stored_in", "refuse_unseen", "said_of_full", "Clock",
    "LogWriter", "Marker", "POWER_AVERAGE", "Rapl", "Recorder", "Sidecar", "processor",
    "clock_was_set_back", "list_devices", "fetch", "Repository", "InForce", "run_workers",
    "Counting", "cpu_seconds", "tell_terminal", "stamp", "KnownDigests", "nearest", "Stopped",
    "StudyError", "ensure_sound", "described", "Loader", "__version__", "read_study", "read_yaml",
    "work_identity", "lease", "logged", "whole_file", "start_worker", "own_cores", "machine_facts",
    "study_folders", "ProgressRecord",
}  # fmt: skip


def test_the_modules_that_change_no_result_are_known_by_what_they_define():
    outside = [path for path in PACKAGE.rglob("*.py") if changes_no_result(path)]
    pattern = re.compile(r"^(?:def |class |)(\w+)\b", re.MULTILINE)
    defined = {path: set(pattern.findall(path.read_text())) for path in outside}
    assert {name for names in defined.values() for name in names} >= DEFINES
    others = {
        str(path.relative_to(PACKAGE)) for path, names in defined.items() if not names & DEFINES
    }
    assert others == {"command_line.py", "energy/__init__.py"}
    written = {
        path
        for path in PACKAGE.rglob("*.py")
        if re.search(rf"^{SAYING}\b", path.read_text(), re.MULTILINE)
    }
    assert written == set(outside), "each gives its reason where it is read"
