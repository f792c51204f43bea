"""longwatt: what accuracy really costs when long-context language models are fine-tuned."""

__version__ = "0.1.0"
