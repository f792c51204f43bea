"""Scoring a model on the validation examples, each process its share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from longwatt import distributed, metrics, stopping
from longwatt.decoding import Predictor
from longwatt.examples import Examples, batches
from longwatt.models.family import Classifier
from longwatt.tasks import CLASSIFICATION, TEXT


class CutShort(Exception):
    """A validation was left because its job was asked to end."""


@dataclass(frozen=True)
class Judge:
    """What predictions are compared with, and how.

    Attributes:
        references: acceptable texts by prediction's id.
        metric: the dataset's.
        text: "raw" or "normalized".
        task: the dataset's; of a label there is nothing to normalize.
    """

    references: Mapping[str, Sequence[str]]
    metric: str
    text: str = "raw"
    task: str = TEXT


class Validator:
    """Scores the model on the validation examples by the cell's protocol.

    Args:
        examples: of the validation split.
        predictor: predicts them.
        judge: of the predictions.
        batch_size: examples per batch; which process predicts a batch changes nothing in it.
    """

    def __init__(
        self, examples: Examples, predictor: Predictor, judge: Judge, batch_size: int
    ) -> None:
        self.examples = examples
        self.predictor = predictor
        self.judge = judge
        self.groups = distributed.share(batches(examples, batch_size))

    def score(self) -> tuple[float, float]:
        """The headline score, the same in every process, and the seconds that scoring kept the device waiting.

        Raises:
            CutShort: some process was asked to end before all were predicted.
        """
        self.predictor.model.eval()
        predictions = dict(self._predictions())
        if any(distributed.gather(stopping.asked())):
            raise CutShort
        start = time.perf_counter()
        score = self._headline(predictions)
        return score, time.perf_counter() - start

    def finite(self) -> bool:
        """Tell whether the model computes numbers in every process: the loss of one example has to be finite.

        Weights may be finite and yet too large for what is computed with them; of logits that are
        not finite the best is then always the same, and its score an ordinary one.
        """
        return all(distributed.gather(self._loss_is_finite()))

    def _loss_is_finite(self) -> bool:
        if not self.groups:  # more processes than batches
            return True
        loss = self.predictor.loss(self.examples, self.groups[0][:1])
        return math.isfinite(loss)

    def _headline(self, predictions: dict[str, str]) -> float:
        """The headline score of what all processes have predicted."""
        if self.judge.task == CLASSIFICATION:  # macro F1 is no mean over examples
            found = dict(pair for part in distributed.gather(predictions) for pair in part.items())
            labels = {id_: references[0] for id_, references in self.judge.references.items()}
            family = cast(Classifier, self.predictor.family)
            return family.score(self.judge.metric, {id_: found[id_] for id_ in labels}, labels)
        scored = [
            pair for part in distributed.gather(self._scores(predictions)) for pair in part.items()
        ]
        by_id = dict(scored)
        # In one order, whoever scored what: sums of floats depend on it.
        corpus = metrics.corpus_scores({id_: by_id[id_] for id_ in self.judge.references})
        return corpus[metrics.headline(self.judge.metric)]

    def _predictions(self) -> Iterator[tuple[str, str]]:
        """This process's (id, text), until it is asked to end."""
        for group in self.groups:
            if stopping.asked():
                return
            for result in self.predictor.predict(self.examples, [group]):
                yield from zip(result.ids, (answer.text for answer in result.answers), strict=True)

    def _scores(self, predictions: dict[str, str]) -> dict[str, dict[str, float]]:
        """Scores of this process's predictions; none where there were more processes than batches."""
        if not predictions:
            return {}
        judge = self.judge
        references = {id_: judge.references[id_] for id_ in predictions}
        return metrics.score_examples(
            predictions, references, metrics=(judge.metric,), text=judge.text
        )
