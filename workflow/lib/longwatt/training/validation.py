"""Score a model on the validation examples, each process its share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from longwatt import metrics
from longwatt.inference.examples import CellExamples, batches
from longwatt.inference.predictor import Predictor
from longwatt.jobs import distributed, sigterm
from longwatt.models.family import Classifier
from longwatt.tasks import CLASSIFICATION, TEXT

Shared = TypeVar("Shared")


class CutShort(Exception):
    """A validation was left because its job was asked to end."""


@dataclass(frozen=True)
class Judge:
    """References for predictions, and how to compare with them."""

    references: Mapping[str, Sequence[str]]  # acceptable texts by prediction's id
    metric: str  # the dataset's
    text: str = "raw"  # "raw" or "normalized"
    task: str = TEXT  # the dataset's; labels are not normalized


class Validator:
    """Scores the validation examples, in batches that depend on no number of processes."""

    def __init__(
        self, examples: CellExamples, predictor: Predictor, judge: Judge, batch_size: int
    ) -> None:
        self.examples = examples
        self.predictor = predictor
        self.judge = judge
        self.groups = distributed.own_share(batches(examples, batch_size))

    def score(self) -> tuple[float, float]:
        """Return the headline score and the seconds for which scoring kept the device waiting.

        Raises:
            CutShort: some process was asked to end before all were predicted.
        """
        self.predictor.model.eval()
        predictions = dict(self._predictions())
        if any(distributed.gather(sigterm.asked())):
            raise CutShort
        start = time.perf_counter()
        score = self._headline(predictions)
        return score, time.perf_counter() - start

    def finite(self) -> bool:
        """Check that the loss of one example is finite in every process.

        Finite weights may be too large to compute with. The best of logits that are not finite is
        always the same one, and its score looks ordinary.
        """
        # Without groups there are more processes than batches.
        firsts = [group[:1] for group in self.groups[:1]]
        finite = all(math.isfinite(self.predictor.loss(self.examples, first)) for first in firsts)
        return all(distributed.gather(finite))

    def _headline(self, predictions: dict[str, str]) -> float:
        """Return the headline score of the predictions of all processes."""
        references = self.judge.references
        if self.judge.task == CLASSIFICATION:  # macro F1 is no mean over examples
            found = _gathered(predictions)
            labels = {id_: texts[0] for id_, texts in references.items()}
            family = cast(Classifier, self.predictor.family)
            return family.score(self.judge.metric, {id_: found[id_] for id_ in labels}, labels)
        by_id = _gathered(self._scores(predictions))
        # Always in one order, whoever scored what: sums of floats depend on it.
        corpus = metrics.corpus_scores({id_: by_id[id_] for id_ in references})
        return corpus[metrics.headline(self.judge.metric)]

    def _predictions(self) -> Iterator[tuple[str, str]]:
        """Yield this process's (id, text) until it is asked to end."""
        for group in self.groups:
            if sigterm.asked():
                return
            for result in self.predictor.predict(self.examples, [group]):
                yield from zip(result.ids, (answer.text for answer in result.answers), strict=True)

    def _scores(self, predictions: dict[str, str]) -> dict[str, dict[str, float]]:
        """Score this process's predictions, which may be none."""
        if not predictions:
            return {}
        judge = self.judge
        references = {id_: judge.references[id_] for id_ in predictions}
        wanted = (judge.metric,)
        return metrics.score_examples(predictions, references, metrics=wanted, text=judge.text)


def _gathered(mine: dict[str, Shared]) -> dict[str, Shared]:
    """Merge the values by id of all processes."""
    return dict(pair for part in distributed.gather(mine) for pair in part.items())
