"""Fonts of this machine by the characters that they have, and stand-ins for the rest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from matplotlib.font_manager import FontEntry, FontPath, fontManager, get_font
from matplotlib.ft2font import FaceFlags, FT2Font

from longwatt.progress import say

FIRST = "DejaVu Sans"  # comes with matplotlib, so that most figures are equal everywhere
BOXES = "Last Resort"  # a family that has a box for every character


def drawable(titles: Mapping[str, str]) -> dict[str, str]:
    """Return titles by name, with the name for a title that no font can draw."""
    shown = {}
    for name, title in titles.items():
        missing = ", ".join(map(_code, _missing(title)))
        shown[name] = name if missing else title
        if missing:
            say(
                f'Figures call "{title}" by its name {name}, since no font of this machine has '
                f"{missing}; install one (Noto has nearly all) and draw them again"
            )
    return shown


def spelled(text: str) -> str:
    """Write characters that no font here has as U+XXXX, and drop those without a shape."""
    words = "".join(" " if c.isspace() and _control(c) and c != "\n" else c for c in text)
    missing = set(_missing(words))
    kept = (c for c in words if c in missing or not _shapeless(c) or _families(c))
    return "".join(f"[{_code(c)}]" if c in missing else c for c in kept)


def plain_text(text: str) -> bool:
    """Tell texts of ASCII letters and lines, which need no look at fonts."""
    return text.isascii() and text.replace("\n", "").isprintable()


def font_families(texts: Iterable[str]) -> list[str]:
    """Return font families that together have all characters, matplotlib's own first."""
    found = [FIRST]
    for character in sorted({c for text in texts for c in text}):
        having = _families(character)
        if having and not set(having) & set(found):
            found.append(having[0])
    return found


def _missing(text: str) -> list[str]:
    """Return characters of a text that have a shape and no font here, once each."""
    return [
        c for c in dict.fromkeys(text) if not c.isspace() and not _shapeless(c) and not _families(c)
    ]


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _control(character: str) -> bool:
    """Tell control characters, which no picture shows and which no SVG may hold."""
    return unicodedata.category(character) == "Cc"


def _shapeless(character: str) -> bool:
    """Check for a joiner, a mark of direction or a variation selector."""
    selects = "VARIATION SELECTOR" in unicodedata.name(character, "")
    return selects or unicodedata.category(character) == "Cf"


@cache
def _families(character: str) -> tuple[str, ...]:
    """List the families that have a character, the best first, the default alone."""
    if _control(character):
        return ()
    first = (entry for entry in _upright() if entry.name == FIRST)
    if character.isascii() or any(_has(entry, character) for entry in first):
        return (FIRST,)
    found = {entry.name for entry in _upright() if _has(entry, character)}
    return tuple(sorted(found, key=lambda name: ("Sans" not in name, "Mono" in name, name)))


@cache
def _upright() -> tuple[FontEntry, ...]:
    """List fonts of ordinary weight and one-coloured outlines, the ones matplotlib draws."""
    return tuple(entry for entry in fontManager.ttflist if _ordinary(entry) and _outlined(entry))


def _ordinary(entry: FontEntry) -> bool:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    upright = entry.style == "normal" and 350 <= weight <= 500
    return upright and not entry.name.startswith(BOXES) and "Emoji" not in entry.name


def _outlined(entry: FontEntry) -> bool:
    try:
        flags = _face(entry).face_flags
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
        return False
    return FaceFlags.SCALABLE in flags and FaceFlags.COLOR not in flags


def _has(entry: FontEntry, character: str) -> bool:
    return bool(_face(entry).get_char_index(ord(character)))


def _face(entry: FontEntry) -> FT2Font:
    return get_font(FontPath(entry.fname, entry.index))
