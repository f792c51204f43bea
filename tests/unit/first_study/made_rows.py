"""Rows as users have them, and files of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longwatt.first_study.machine_seen import Machine
from longwatt.first_study.making import FirstStudy, StudyWritten, make

RIVERS = ("Elbe", "Rhine", "Oder", "Weser")
CPU = Machine(0, "", None, 2)
GPU = Machine(2, "NVIDIA A100", 80.0, 16)


def question_rows(count: int = 60) -> list[dict[str, Any]]:
    """Questions on reports, as JSON lines often have them."""
    return [
        {
            "id": str(n),
            "report": f"Report {n}. " + f"The {RIVERS[n % 4]} flooded {n} houses. " * 3,
            "question": "Which river?",
            "answers": [RIVERS[n % 4]],
        }
        for n in range(count)
    ]


def labelled_rows(count: int = 60) -> list[dict[str, Any]]:
    """Reviews with a label."""
    return [{"text": f"Film {n} was {n % 2} good", "label": ("no", "yes")[n % 2]}
            for n in range(count)]  # fmt: skip


def lines(rows: list[Any]) -> str:
    """Spell rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def written(folder: Path, *data: Any, model: str = "tiny", machine: Machine = CPU,
            **more: Any) -> StudyWritten:  # fmt: skip
    """Make a first study of some files."""
    wanted = FirstStudy(folder, [str(one) for one in data], model, **more)
    return make(wanted, machine=machine)
