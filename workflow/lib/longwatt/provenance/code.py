"""Digest the code that can change the result of a rule.

The digest follows meaning, not places and words. Every statement at the top of a module counts by
its text and by what each of its names stands for, however far that is away, so a definition may
move to another module and a module to another folder. A file (.css, .html, .js) beside a module
that names it counts by its bytes. These do not count:

- comments, docstrings, formatting, `__all__`, and where a module lies and what it is called,
- where imports stand and how they are grouped: they say what names stand for, and which libraries
  are loaded,
- the words of `raise X("words")`; any other argument counts, since who catches the error may use
  it,
- modules that define `CHANGES_NO_RESULT`, which gives the reason; what they define counts by its
  name where it is used.

Definitions may stand in any order. A module that does more than define, such as to register a
class, keeps its order.

Two limits remain. Two variables that begin alike and are changed by functions are not told apart,
should functions swap them. The order of two definitions that take turns at one hidden state
(`next(NUMBERS)`) is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from longwatt.files import PACKAGE
from longwatt.provenance.code_reading import OURS, Import, Module, read_module
from longwatt.provenance.stamps import digest

CHANGES_NO_RESULT = "It only says which code a result was made with."

SAYING = "CHANGES_NO_RESULT"  # the constant of a module that is in no digest
OUTSIDE = "changes no result"  # in the place of what such a module defines


@cache
def code_digest(script: Path, modules: tuple[str, ...] = ()) -> str:
    """Digest a script and the modules of ours that can change its result (`Code.digest`)."""
    return _installed().digest(script, modules)


def module_path(name: str, package: Path = PACKAGE) -> Path | None:
    """Find the file of a longwatt module, or None."""
    parts = name.split(".")
    if parts[0] != OURS or not all(part.isidentifier() for part in parts):
        return None
    base = package.joinpath(*parts[1:])
    places = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in places[len(parts) == 1 :] if path.is_file()), None)


def changes_no_result(path: Path) -> bool:
    """Check whether a module's head says that it changes no result."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"^{SAYING}\b", text, re.MULTILINE)
    if not found:
        return False
    end = text.find("\n\n", found.start())
    try:
        head = ast.parse(text if end < 0 else text[:end])
    except SyntaxError:  # the words stand within a longer text, and say nothing
        return False
    return any(
        isinstance(node, ast.Assign)
        and [getattr(target, "id", "") for target in node.targets] == [SAYING]
        and isinstance(node.value, ast.Constant)
        and bool(node.value.value)
        for node in head.body
    )


@cache
def _installed() -> Code:
    return Code(PACKAGE)


class Code:
    """The code of a package, each file read once.

    Statements have colours: at depth 0 of their texts alone, at depth n also of the colours at
    depth n - 1 that their names stand for. Where going deeper tells no more statements of a rule
    apart, equal colours are equal in meaning.

    Args:
        package: folder of the package.
    """

    def __init__(self, package: Path) -> None:
        self._package = package
        self._paths: dict[str, Path | None] = {}
        self._counting: dict[str, Path | None] = {}
        self._modules: dict[Path, Module] = {}
        self._colours: dict[tuple[Path, int, int], str] = {}
        self._meanings: dict[tuple[Path, str, int], tuple[str, ...]] = {}
        self._wholes: dict[tuple[Path, int], str] = {}

    def digest(self, script: Path, modules: Sequence[str] = ()) -> str:
        """Digest a script and the modules of ours that can change its result.

        Args:
            script: its file.
            modules: those that it uses by a name from its settings.
        """
        files = [script, *self.closure(script, modules).values()]
        counts = {path: len(self._module(path).statements) for path in files}
        statements = [(path, n) for path in files for n in range(counts[path])]
        depth, told_apart = 1, len({self._colour(*one, 0) for one in statements})
        colours = [self._colour(*one, 1) for one in statements]
        while len(set(colours)) > told_apart:
            depth, told_apart = depth + 1, len(set(colours))
            colours = [self._colour(*one, depth) for one in statements]
        libraries = frozenset[str]().union(*(self._module(path).libraries for path in files))
        named = [self._whole(name, depth) for name in modules]
        return digest([sorted(colours), sorted(libraries), named])

    def closure(self, script: Path, modules: Iterable[str] = ()) -> dict[str, Path]:
        """Find the modules, by name, that can change the result of a script.

        They are found by walking imports, and strings that name a module (a worker that is launched
        by name). Modules that say that they change no result are left out.
        """
        found: dict[str, Path] = {}
        waiting = [*self._module(script).references, *modules]
        while waiting:
            name = waiting.pop()
            path = self._counted(name)
            if path is not None and name not in found:
                found[name] = path
                waiting += self._module(path).references
        return found

    def _path(self, name: str) -> Path | None:
        if name not in self._paths:
            self._paths[name] = module_path(name, self._package)
        return self._paths[name]

    def _counted(self, name: str) -> Path | None:
        """Find the file of a module that can change results."""
        if name not in self._counting:
            path = self._path(name)
            self._counting[name] = None if path is None or changes_no_result(path) else path
        return self._counting[name]

    def _module(self, path: Path) -> Module:
        if path not in self._modules:
            self._modules[path] = read_module(path, lambda name: self._path(name) is not None)
        return self._modules[path]

    def _colour(self, path: Path, number: int, depth: int) -> str:
        key = (path, number, depth)
        if key not in self._colours:
            parts = [self._module(path).statements[number].text]
            if depth:
                parts = [self._colour(path, number, 0), *self._edges(path, number, depth - 1)]
            self._colours[key] = _hash(parts)
        return self._colours[key]

    def _edges(self, path: Path, number: int, depth: int) -> Iterator[str]:
        """Yield what a statement's names stand for, each with its name or its number's order."""
        module = self._module(path)
        statement = module.statements[number]
        for name in statement.names:
            if name in statement.imports or name in module.bindings:
                yield f"{name}={self._of_statement(path, number, name, depth)}"
        for name, asked in statement.asked:
            yield f"{asked}:{self._of_statement(path, number, name, depth, asked)}"
        for name in statement.strings:
            yield f"{self._whole(name, depth)} {self._whole(f'{name}.__main__', depth)}"
        if module.is_ordered and number:
            yield f"after {self._colour(path, number - 1, depth)}"

    def _of_statement(
        self, path: Path, number: int, name: str, depth: int, asked: str = ""
    ) -> list[str]:
        """List what a name stands for, of a module what is asked of it."""
        module = self._module(path)
        imports = module.statements[number].imports.get(name, ())
        if not asked and not imports:
            return list(self._of_module(path, name, depth))
        bindings = dict.fromkeys([*imports, *module.bindings.get(name, ())])
        return [colour for one in bindings for colour in self._of_binding(path, one, depth, asked)]

    def _of_module(self, path: Path, name: str, depth: int) -> tuple[str, ...]:
        """List the statements that bind a name of a module, in order."""
        key = (path, name, depth)
        if key not in self._meanings:
            self._meanings[key] = ()  # what is imported from itself is nothing
            found: list[str] = []
            for binding in self._module(path).bindings.get(name, ()):
                found += self._of_binding(path, binding, depth)
            self._meanings[key] = tuple(found)
        return self._meanings[key]

    def _of_binding(
        self, path: Path, binding: int | Import, depth: int, asked: str = ""
    ) -> Sequence[str]:
        if isinstance(binding, int):
            return [self._colour(path, binding, depth)]
        module = self._as_module(binding)
        given = Import(module, asked) if module and asked else binding
        if not given.is_ours:
            return [f"{given.module}:{given.name}"]
        whole, source = self._as_module(given), self._counted(given.module)
        if whole:
            return [self._whole(whole, depth)]
        if source is None:
            return [OUTSIDE]
        # A module's `__getattr__` gives what none of its statements binds.
        every = range(len(self._module(source).statements))
        return self._of_module(source, given.name, depth) or [
            _hash(sorted(self._colour(source, number, depth) for number in every))
        ]

    def _as_module(self, given: Import) -> str | None:
        """Return the name of our module that an import gives, or None."""
        if not given.is_ours or not given.name:
            return given.module if given.is_ours else None
        name, package = f"{given.module}.{given.name}", self._counted(given.module)
        bound = self._module(package).bindings.get(given.name, ()) if package else ()
        return name if self._path(name) and set(bound) <= {given} else None

    def _whole(self, name: str, depth: int) -> str:
        """Hash a module used by name, its public names and acts as program."""
        path = self._counted(name)
        if path is None:
            return OUTSIDE
        if (path, depth) not in self._wholes:
            module = self._module(path)
            acts = [
                self._colour(path, n, depth) for n, one in enumerate(module.statements) if one.acts
            ]
            named = [f"{one}={self._of_module(path, one, depth)}" for one in self._public(module)]
            self._wholes[path, depth] = _hash([*sorted(acts), *sorted(named)])
        return self._wholes[path, depth]

    def _public(self, module: Module) -> Iterator[str]:
        """Yield the public names of a module but for libraries and other modules."""
        for name, bindings in module.bindings.items():
            imported = [one for one in bindings if isinstance(one, Import)]
            if name[0] != "_" and all(one.is_ours and not self._as_module(one) for one in imported):
                yield name


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
