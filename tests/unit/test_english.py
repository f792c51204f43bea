"""The rules of English that a program can check: docstrings begin as the field's own do."""

import ast
import re

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "workflow" / "lib"
FILES = sorted([*PACKAGE.glob("*/**/*.py"), *(ROOT / "website").glob("*.py")])
MOST_WORDS = 15
# A sentence begins with its subject, and a function's first line with its verb.
NO_SUBJECT = {"of", "what", "whether", "that", "who", "whom", "whose", "which"}
NO_VERB = NO_SUBJECT | {
    "a", "all", "an", "and", "any", "as", "at", "but", "by", "each", "every", "for", "from", "how",
    "if", "in", "is", "it", "its", "no", "not", "on", "one", "only", "our", "same", "several",
    "some", "the", "their", "there", "these", "this", "those", "to", "two", "when", "where",
    "while", "why", "with", "without",
}  # fmt: skip


def docstrings(tree: ast.Module):
    """Every docstring with its name, and whether a function's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text:
                wrapped = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
                is_value = any(name.endswith("property") for name in wrapped)
                verb = isinstance(node, ast.FunctionDef) and not is_value
                yield getattr(node, "name", "module"), text, verb


def first_line_faults(text: str, verb: bool) -> list[str]:
    """What is wrong with a docstring's first line; nothing if it is as it should be."""
    line = text.split("\n")[0]
    words = line.split()
    first = re.sub(r"\W", "", words[0]).lower()
    faults = []
    if first in (NO_VERB if verb else NO_SUBJECT):
        faults.append("begins with " + words[0])
    if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", words[0]):  # a renamed class, put where a verb stood
        faults.append("begins with the name " + words[0])
    if len(words) > MOST_WORDS:
        faults.append(f"{len(words)} words")
    if ";" in line:
        faults.append("a semicolon")
    if not line.endswith((".", "?", "::")):
        faults.append("no whole sentence")
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_and_say_one_thing(path):
    tree = ast.parse(path.read_text())
    found = [
        f"{name}: {text.splitlines()[0]!r} ({', '.join(faults)})"
        for name, text, verb in docstrings(tree)
        if (faults := first_line_faults(text, verb))
    ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_sentence_of_a_docstring_begins_without_its_subject(path):
    found = [
        f"{name}: {sentence}"
        for name, text, _ in docstrings(ast.parse(path.read_text()))
        for sentence in re.findall(r"(?:^|[.!?:]\s+)((?:Of|What|Whether|That|Who)\b[^.\n]*)", text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "verb", "fault"),
    [
        ("What a study asks for.", False, "begins with What"),
        ("The cells of a study.", True, "begins with The"),
        ("Read a study; check it.", True, "a semicolon"),
        ("Read a study", True, "no whole sentence"),
        ("StudyReader a study.", False, "begins with the name StudyReader"),
        ("Read " + "a very " * 8 + "long study.", True, "19 words"),
    ],
)
def test_the_rules_find_what_they_forbid(text, verb, fault):
    assert first_line_faults(text, verb) == [fault]
    assert first_line_faults("Read a study.", verb) == []
