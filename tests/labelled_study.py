"""A small study of labels that has not run: exits, the standard, an efficient model."""

from __future__ import annotations

from typing import Any

from longwatt.config.documents import merge, normalise
from longwatt.config.expansion import write_out

CONFIG = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2,
          "intermediate_size": 128, "max_position_embeddings": 128}  # fmt: skip
LAYERS = {"exits": [0, 1, 3, 5], "standard": [5], "efficient": [3]}


def labelled_study(**changes: Any) -> dict[str, Any]:
    """As `longwatt.config.studies.read_study` gives it, with these parts merged over."""
    models = {
        name: {"family": "early_exit", "initialisation": "random", "tokenizer": "bpe",
               "config": CONFIG,
               "exits": {"layers": layers}}
        for name, layers in LAYERS.items()
    }  # fmt: skip
    study = {
        "title": "Labels",
        "datasets": {"sentences": {"source": "aclsum_sentences", "task": "classification",
                                   "metric": "macro_f1"}},
        "tokenizers": {"bpe": {"kind": "byte_level_bpe", "vocab_size": 1000}},
        "models": models,
        "budgets": {"gpu": {"gpus": 1, "per_device_batch_size": 32, "watts_per_gpu": 200}},
        "training": {"max_epochs": 2, "validation": {"every_steps": 20}},
        "inference": {
            "leave": {"split": "test", "batch_sizes": [1, 32], "exit": {"thresholds": [0.5, 0.9]}},
            "last": {"split": "test", "batch_sizes": [1, 32]},
        },
        "grid": [
            {"datasets": ["sentences"], "models": ["exits"], "seq_lens": [64], "budgets": ["gpu"]},
            {"datasets": ["sentences"], "models": ["standard", "efficient"], "seq_lens": [64],
             "budgets": ["gpu"],
             "inference": ["last"]},
        ],
    }  # fmt: skip
    return write_out(normalise(merge(study, changes)), "test")


def cell_of(model: str) -> str:
    """The study's cell of a model."""
    return f"sentences/{model}/64/gpu/classified/seed42"
