"""Read a module as statements without words and places, and the meanings of names."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longwatt.files import sha256

CHANGES_NO_RESULT = "It only says which code a result was made with."

OURS = "longwatt"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
UNSEEN = {"ctx", "kind", "type_comment"}  # fields that say nothing that other fields do not
DOTTED = f"{OURS}."
BESIDE_MODULES = (".css", ".html", ".js")  # files beside a module that it makes results with


@dataclass(frozen=True)
class Import:
    """An imported name: a module, or something in it where `name` is given."""

    module: str
    name: str = ""

    @property
    def is_ours(self) -> bool:
        """Return whether it is a module of this package, or something in one."""
        return self.module.partition(".")[0] == OURS


@dataclass(frozen=True)
class Statement:
    """A statement at the top of a module.

    Attributes:
        text: its meaning but for what its names stand for, equal under every Python.
        names: names in it.
        asked: (name of a module of ours, what is asked of it), numbered so in `text`.
        strings: modules of ours that are named by a string, numbered so in `text`.
        imports: what it imports itself, by the name given.
        bound: names that it defines in its module.
        acts: whether it does more than define them.
    """

    text: str
    names: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    strings: tuple[str, ...]
    imports: Mapping[str, tuple[Import, ...]]
    bound: tuple[str, ...]
    acts: bool


@dataclass(frozen=True)
class Module:
    """A module as it was read.

    Attributes:
        statements: all but imports and docstring.
        bindings: what each of its names stands for: numbers of statements, imports.
        references: what may be modules of ours: what it imports, and modules that it names by a
            string.
        libraries: what it imports from elsewhere.
        is_ordered: whether it does more than define, also where it is not the program.
    """

    statements: tuple[Statement, ...]
    bindings: Mapping[str, tuple[int | Import, ...]]
    references: tuple[str, ...]
    libraries: frozenset[str]
    is_ordered: bool


def read_module(path: Path, is_module: Callable[[str], bool]) -> Module:
    """Read a module of Python.

    Args:
        path: its file.
        is_module: tells whether a dotted name is that of a module of ours.

    Raises:
        SyntaxError: it is no Python, or imports `*` or from a relative place.
    """
    body = _without_docstring(ast.parse(path.read_text(encoding="utf-8"), str(path)).body)
    imports = _Imports(is_module)
    kept = [node for node in body if not imports.take(node) and not _is_all(node)]
    readers = [_Reader(node, imports, is_module, path.parent) for node in kept]
    statements = [reader.statement() for reader in readers]
    everything = [imports, *(reader.imports for reader in readers)]
    named = [name for one in statements for name in one.strings]
    strings = [place for name in named for place in (name, f"{name}.__main__")]
    return Module(
        tuple(statements),
        _bindings(kept, statements, imports),
        (*(name for one in everything for name in one.references), *strings),
        frozenset(library for one in everything for library in one.libraries),
        any(one.acts and not _is_program(node) for node, one in zip(kept, statements, strict=True)),
    )


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return body


def _is_all(node: ast.stmt) -> bool:
    """Return whether a statement is `__all__ = ...`, which only `import *` would ask for."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [getattr(one, "id", "") for one in targets] == ["__all__"]


def _is_program(node: ast.stmt) -> bool:
    """Return whether a statement runs only under `if __name__ == "__main__"`."""
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def _acts(node: ast.stmt) -> bool:
    """Return whether a statement does more than define functions, classes or plain names."""
    if isinstance(node, DEFINITIONS):
        return False
    names: list[ast.expr] = []
    for one in _targets(node):
        names += one.elts if isinstance(one, ast.Tuple) else [one]
    return not names or not all(isinstance(item, ast.Name) for item in names)


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def _bindings(
    nodes: Sequence[ast.stmt], statements: Sequence[Statement], imports: _Imports
) -> dict[str, tuple[int | Import, ...]]:
    """Gather the meanings of each name by the order of statements, imports first."""
    found: dict[str, dict[int | Import, None]] = {}
    for name, imported in imports.given.items():
        found[name] = dict.fromkeys(imported)
    for number, (node, statement) in enumerate(zip(nodes, statements, strict=True)):
        for name in statement.bound:
            found.setdefault(name, {})[number] = None
        for name, given in () if isinstance(node, DEFINITIONS) else statement.imports.items():
            found.setdefault(name, {}).update(dict.fromkeys(given))
    return {name: tuple(given) for name, given in found.items()}


class _Imports:
    """Imports of a module, or of one statement in it.

    Attributes:
        given: what they give, by name.
        modules: names that stand for modules of ours.
        references: what may be modules of ours.
        libraries: what comes from elsewhere.
    """

    def __init__(self, is_module: Callable[[str], bool]) -> None:
        self._is_module = is_module
        self.given: dict[str, list[Import]] = {}
        self.modules: set[str] = set()
        self.references: list[str] = []
        self.libraries: set[str] = set()

    def take(self, node: ast.AST) -> bool:
        """Take in a statement that only imports, and return whether it does."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(alias)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._from(node, alias)
        elif isinstance(node, ast.If) and _is_for_types(node):
            return all([self.take(one) for one in node.body])
        else:
            return False
        return True

    def _module(self, alias: ast.alias) -> None:
        whole = alias.asname is not None or alias.name.startswith(DOTTED)
        given = Import(alias.name if whole else alias.name.partition(".")[0])
        self._add(alias.asname or alias.name.partition(".")[0], given, alias.name)

    def _from(self, node: ast.ImportFrom, alias: ast.alias) -> None:
        if node.level or alias.name == "*":
            rule = "import each name, from the full name of its module"
            raise SyntaxError(f"line {node.lineno}: {rule}")
        given = Import(node.module or "", alias.name)
        self._add(alias.asname or alias.name, given, f"{given.module}:{alias.name}")

    def _add(self, name: str, given: Import, library: str) -> None:
        self.given.setdefault(name, []).append(given)
        if not given.is_ours:
            self.libraries.add(library)
            return
        inner = f"{given.module}.{given.name}" if given.name else given.module
        self.references += [given.module, inner]
        if self._is_module(inner):
            self.modules.add(name)


def _is_for_types(node: ast.If) -> bool:
    """Return whether a statement only imports, for type checkers alone."""
    named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return named and not node.orelse and all(isinstance(one, IMPORTS) for one in node.body)


class _Reader:
    """Writes down one statement at the top of a module.

    Args:
        node: the statement.
        imports: those at the top of its module.
        is_module: tells whether a dotted name is that of a module of ours.
        folder: where its module lies.
    """

    def __init__(
        self, node: ast.stmt, imports: _Imports, is_module: Callable[[str], bool], folder: Path
    ) -> None:
        self.imports = _Imports(is_module)
        self._folder = folder
        self._statement = node
        self._is_module = is_module
        self._above = imports.modules
        self._parts: list[str] = []
        self._names: set[str] = set()
        self._shared: set[str] = set()
        self._asked: dict[tuple[str, str], int] = {}
        self._strings: dict[str, int] = {}

    def statement(self) -> Statement:
        """Write the statement down."""
        self._write(self._statement)
        return Statement(
            "".join(self._parts),
            tuple(sorted(self._names)),
            tuple(self._asked),
            tuple(self._strings),
            {name: tuple(given) for name, given in self.imports.given.items()},
            tuple(sorted(self._shared.union(_bound(self._statement)))),
            _acts(self._statement),
        )

    def _write(self, value: Any) -> None:
        """Write a node, a list or a plain value so that none reads alike."""
        if isinstance(value, list):
            self._list(value)
        elif not isinstance(value, ast.AST):
            self._parts.append(ascii(value))  # `repr` escapes what this Python does not know
        else:
            special = self._SPECIAL.get(type(value))
            if special is None or not special(self, value):
                self._node(value)

    def _node(self, node: ast.AST) -> None:
        self._parts += (type(node).__name__, "(")
        for name in node._fields:
            value = getattr(node, name, None)
            # Fields that newer versions add are empty here.
            if value is not None and name not in UNSEEN and value != []:
                self._parts += (name, "=")
                self._write(value)
        self._parts.append(")")

    def _list(self, values: list[Any]) -> None:
        self._parts.append("[")
        for value in values:
            if not self.imports.take(value):
                self._write(value)
                self._parts.append(",")
        self._parts.append("]")

    def _name(self, node: ast.Name) -> bool:
        self._names.add(node.id)
        return False

    def _global(self, node: ast.Global) -> bool:
        self._names.update(node.names)
        self._shared.update(node.names)
        return False

    def _attribute(self, node: ast.Attribute) -> bool:
        """Write what is asked of a module of ours without its name."""
        name = getattr(node.value, "id", "")
        # It may be a variable, which counts by its name.
        if name not in self._above | self.imports.modules or name in self._local:
            return False
        number = self._asked.setdefault((name, node.attr), len(self._asked))
        self._parts.append(f"asked({number},{node.attr})")
        return True

    @cached_property
    def _local(self) -> set[str]:
        """Variables that are set anywhere in the statement."""
        return {name for node in ast.walk(self._statement) for name in _given_by(node)}

    def _constant(self, node: ast.Constant) -> bool:
        """Write a string that names a module of ours or a file beside it."""
        value = node.value
        if not isinstance(value, str):
            return False
        if value.endswith(BESIDE_MODULES) and value.isascii() and (self._folder / value).is_file():
            self._parts.append(f"file({sha256(self._folder / value)})")
            return True
        if not value.startswith(DOTTED) or not self._is_module(value):
            return False
        self._parts.append(f"module({self._strings.setdefault(value, len(self._strings))})")
        return True

    def _documented(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
        node.body = _without_docstring(node.body) or [ast.Pass()]
        return False

    def _joined(self, node: ast.JoinedStr) -> bool:
        """Write an f-string with neighbouring texts as one, which Python 3.12 leaves apart."""
        text = ""
        self._parts.append("joined(")
        for item in [*node.values, None]:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                text += item.value
                continue
            self._parts.append(f"{text!a},")
            text = ""
            self._write(item)
        self._parts.append(")")
        return True

    def _raise(self, node: ast.Raise) -> bool:
        """Write an error without its words. Its handler may use any other value."""
        if isinstance(node.exc, ast.Call):
            given = [*node.exc.args, *(keyword.value for keyword in node.exc.keywords)]
            worded = {id(one) for one in given if _is_worded(one)}
            node.exc.args = [_WORDS if id(one) in worded else one for one in node.exc.args]
            for keyword in node.exc.keywords:
                keyword.value = _WORDS if id(keyword.value) in worded else keyword.value
        return False

    _SPECIAL: Mapping[type[ast.AST], Callable[[_Reader, Any], bool]] = {
        ast.Name: _name,
        ast.Global: _global,
        ast.Attribute: _attribute,
        ast.Constant: _constant,
        ast.JoinedStr: _joined,
        ast.Raise: _raise,
        **dict.fromkeys(DEFINITIONS, _documented),
    }


_WORDS = ast.Constant("words")


def _is_worded(node: ast.expr) -> bool:
    """Return whether an expression is a text, also one put together or formatted."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
            return _is_worded(left) or _is_worded(right)
        case ast.IfExp(body=body, orelse=other):
            return _is_worded(body) and _is_worded(other)
        case ast.Call(func=ast.Attribute(value=value)):
            return _is_worded(value)
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
    return False


def _given_by(node: ast.AST) -> Iterator[str]:
    """Yield the variables that one node sets, in whatever scope."""
    if isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping):
        yield str(getattr(node, "name", None) or getattr(node, "rest", None))


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives a meaning to in its module."""
    if isinstance(node, DEFINITIONS):
        yield node.name
        return
    # Names in a comprehension on the right are not the module's.
    places: Sequence[ast.AST] = _targets(node) or [node]
    for item in ast.walk(node):
        if isinstance(item, ast.NamedExpr):
            yield item.target.id
        elif isinstance(item, DEFINITIONS):
            yield item.name
    for item in (inner for one in places for inner in ast.walk(one)):
        if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load):
            yield item.id
