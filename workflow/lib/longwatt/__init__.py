"""longwatt: what accuracy really costs when long-context language models are fine-tuned."""

CHANGES_NO_RESULT = "It names the release; artefacts name the code itself."

__version__ = "0.1.0"
