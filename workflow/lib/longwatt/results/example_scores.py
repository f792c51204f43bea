"""Read every example's scores, as `longwatt.results.scoring` wrote them, to resample them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longwatt import metrics
from longwatt.metrics.classification import MACRO_F1, labels_sample
from longwatt.metrics.document_samples import with_documents
from longwatt.metrics.resampling import Sample
from longwatt.provenance.artefacts import check_beside, read_from
from longwatt.provenance.stamps import read_stamp
from longwatt.tokens.references import EACH

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "example"  # column with the example's id, where each of its references has a row
DOCUMENT = "document"  # column with the document's name, where examples share documents
# Columns of baselines, by metric.
LEAD, CEILING, MAJORITY_COLUMN = "lead_{}", "ceiling_{}", "majority"
REFERENCE_NUMBER = r"#\d+$"  # that `longwatt.tokens.references.compared_id` puts after an id
# Summary columns of baselines, by the columns that their examples have.
BASELINE_COLUMNS = {"score_lead": LEAD, "score_ceiling": CEILING, "majority": MAJORITY_COLUMN}


@dataclass(frozen=True)
class ExampleScores:
    """Holds one inference point's examples.csv.

    Attributes:
        table: its rows.
        examples: the example of each row.
        split: that they are of; None where scores.json beside them does not say.
        documents: the document of each example, where examples share some and it is recorded.
    """

    table: pd.DataFrame
    examples: tuple[str, ...]
    split: str | None = None
    documents: Mapping[str, str] | None = None

    def sample(self, column: str, score_name: str = "") -> Sample:
        """Gather what examples add to a column of the summary.

        Args:
            column: one of `longwatt.study.summary_columns.OF_EXAMPLES`.
            score_name: the headline's name, which "score", "score_lead" and "score_ceiling" are in.

        Raises:
            KeyError: examples have no such score.
        """
        return with_documents(self._sample(column, score_name), self.documents)

    def _sample(self, column: str, score_name: str) -> Sample:
        name = score_name if column in ("score", "score_lead", "score_ceiling") else column
        if column == MACRO_F1 or (column == "score" and name == MACRO_F1):
            rows = zip(self.examples, self.table["label"], self.table["prediction"], strict=True)
            said = {id_: {"label": label, "prediction": given} for id_, label, given in rows}
            return labels_sample(said, MACRO_F1)
        shown = BASELINE_COLUMNS.get(column, "{}")
        names = [shown.format(part) for part in metrics.score_parts(name)]
        return Sample.of(self.examples, self.table[names].to_numpy(float))


def read_examples(path: Path) -> ExampleScores:
    """Read an examples.csv.

    Where each reference was an example of its own, those of one example belong together. Older
    files do not name it: there scores.json beside them says so.

    Raises:
        longwatt.provenance.artefacts.Damaged: the file is not what was written with scores.json.
    """
    import pandas as pd  # which scoring, who only writes this file, does without

    check_beside(path.with_name("scores.json"), path)
    words = dict.fromkeys(("id", EXAMPLE, DOCUMENT, "label", "prediction"), str)
    with read_from(path):
        table = pd.read_csv(path, dtype=words, keep_default_na=False)
        ids = table["id"]
    settings = (read_stamp(path.with_name("scores.json")) or {}).get("settings") or {}
    if EXAMPLE in table:
        ids = table[EXAMPLE]
    elif settings.get("references") == EACH:
        ids = ids.str.replace(REFERENCE_NUMBER, "", regex=True)
    documents = dict(zip(ids, table[DOCUMENT], strict=True)) if DOCUMENT in table else None
    return ExampleScores(table, tuple(ids), settings.get("split"), documents)
