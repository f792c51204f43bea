"""Leave an encoder at the first classifier that a rule accepts.

Examples are predicted alone, or in batches that are regrouped: after each classifier the
unfinished rows of all micro-batches are merged into as few as hold them,
so that a larger batch gains from early exits too. Sums of floats depend on a batch's shape, which
in float32 can turn a decision that is close. Such a row is answered alone, so that its answer is
that of batch 1. With coarser products (bf16, fp16, TF32) too many rows would be in doubt. Answers
are then only close to those of batch 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import add, itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from longwatt.models.errors import ModelError
from longwatt.models.exits.answers import Left
from longwatt.models.exits.rules import LAST, ORACLE, PATIENCE, THRESHOLD, ExitRule, reaches

if TYPE_CHECKING:
    from longwatt.models.exits.layerwise import Call, Layerwise

Element = TypeVar("Element")
# As a part of the largest logit. It is far above what another shape changes in float32 sums (1e-7
# to 1e-6 seen).
DOUBT = 1e-4
# Above this doubles are too coarse to tell how far a confidence is from a threshold.
SURE = 1 - 1e-9


@dataclass(frozen=True)
class Verdict:
    """A classifier's verdict on one example."""

    answer: int  # index of the label
    confidence: float  # its calibrated probability
    margin: float = math.inf  # of the answer over the next one, in calibrated logits
    scale: float = 0.0  # the largest of these logits by magnitude


@dataclass(slots=True, eq=False)
class Decision:
    """An exit rule followed for one example, from its first classifier to its exit."""

    rule: ExitRule  # when to leave
    last: int  # index of the last classifier
    label: int | None  # index of the right answer, for the oracle alone
    answer: int = field(default=-1, init=False)
    agreed: int = field(default=0, init=False)

    def leaves(self, number: int, verdict: Verdict) -> bool:
        """Check whether the example leaves here, asked for each classifier in turn."""
        self.agreed = self.agreed + 1 if verdict.answer == self.answer else 1
        self.answer = verdict.answer
        return number == self.last or self._accepts(verdict)

    def _accepts(self, verdict: Verdict) -> bool:
        if self.rule.kind == THRESHOLD:
            return reaches(verdict.confidence, float(self.rule.value or 0))
        if self.rule.kind == PATIENCE:
            return self.agreed >= self.rule.value  # type: ignore[operator]
        return verdict.answer == self.label

    def doubtful(self, number: int, verdict: Verdict) -> bool:
        """Check whether rounding could turn the answer or the decision."""
        limit, threshold = DOUBT * verdict.scale, self.rule.value
        if verdict.margin < limit:
            return True
        decides = self.rule.kind == THRESHOLD and number != self.last
        if not decides or threshold is None or threshold == 1:
            return False
        if min(verdict.confidence, threshold) > SURE:
            return True
        return abs(_log_odds(verdict.confidence) - _log_odds(threshold)) < limit


@dataclass
class _Group:
    """Rows that go through the layers together."""

    rows: list[int]  # positions in the batch, by ascending length
    hidden: Tensor  # (rows, length, width)
    calls: list[Call]  # of all layers, for these rows
    # Logits so far of the last classifier asked and of those above, side by side: (rows, those x
    # classes); None at first.
    scores: Tensor | None = None


class Folded:
    """A model's pooler and classifiers as one product for each exit.

    A classifier is linear in the pooled states. Each of these is multiplied once, with the matrices
    of all classifiers that see it; the rest is sums of a few numbers.

    Args:
        dense: the pooler's layer.
        exits: the classifiers; weights are read again once they have changed.
    """

    def __init__(self, layerwise: Layerwise, dense: nn.Linear, exits: nn.ModuleList) -> None:
        self.layerwise, self.dense = layerwise, dense
        self.exits: list[Any] = list(exits)
        self.classes: int = self.exits[0].classifier.out_features
        self._of: tuple[Any, ...] = ()
        self._weights: list[Tensor] = []
        self._biases: list[Tensor] = []

    def refresh(self) -> Folded:
        """Read weights that are new, were changed or moved."""
        held = [(e.weights, e.classifier.weight, e.classifier.bias) for e in self.exits]
        state = tuple((tensor.data_ptr(), tensor._version) for one in held for tensor in one)
        if state == self._of:
            return self
        self._of, self._weights, self._biases = state, [], []
        for number, one in enumerate(self.exits):
            seeing = self.exits[number:]
            self._weights.append(
                torch.cat([e.classifier.weight * e.weights[number] for e in seeing])
            )
            later = one.classifier.bias.new_zeros((len(seeing) - 1) * self.classes)
            self._biases.append(torch.cat([one.classifier.bias, later]))
        return self

    def scores(self, number: int, hidden: Tensor) -> Tensor:
        """Return the part of exit `number` in its classifier's and later ones' logits.

        They are (rows, those x classes), in float32 so that one row and many are summed alike.
        """
        first = self.layerwise.first_token(hidden)
        pooled = functional.linear(first, self.dense.weight, self.dense.bias).tanh_()
        return functional.linear(pooled, self._weights[number], self._biases[number]).float()


class ExitModel(Protocol):
    """A model with exits, as far as inference needs it."""

    config: Any

    @property
    def layerwise(self) -> Layerwise:
        """The encoder's layers, one by one."""

    @property
    def folded(self) -> Folded:
        """The pooler and the classifiers."""


class Leaver:
    """Predicts batches with a model in evaluation mode.

    Args:
        batch_size: rows per forward pass.
        uncalibrated: take the logits as they are, whatever the model's temperatures.

    Raises:
        ModelError: the rule has a threshold, but the model was not calibrated.
    """

    def __init__(
        self, model: ExitModel, rule: ExitRule, batch_size: int, uncalibrated: bool = False
    ) -> None:
        self.rule, self.batch_size = rule, batch_size
        self.layerwise, self.folded = model.layerwise, model.folded.refresh()
        self.layers: list[int] = model.config.layers
        self.last = len(self.layers) - 1
        given = None if uncalibrated else model.config.temperatures
        if given is None and rule.kind == THRESHOLD and not uncalibrated:
            raise ModelError(
                "the model has no temperatures: calibrate first, since a threshold compares "
                "calibrated confidences, or pass temperatures (1 for each classifier takes the "
                "logits as they are)"
            )
        self.temperatures = [1.0] * len(self.layers) if given is None else list(given)
        # Classifiers whose answers decide: without a rule only the last.
        self.asked = [self.last] if rule.kind == LAST else list(range(len(self.layers)))

    @torch.no_grad()
    def leave(self, inputs: Mapping[str, Tensor], labels: Tensor | None = None) -> list[Left]:
        """Return the exit of each row, in the batch's order.

        Args:
            inputs: input_ids and attention_mask (rows, length), padded on the right;
                token_type_ids where the encoder has them.
            labels: (rows, 1) or (rows,), for the oracle alone.
        """
        lengths = [int(length) for length in inputs["attention_mask"].sum(1).tolist()]
        gold: list[int | None] = [None] * len(lengths)
        if self.rule.kind == ORACLE:
            if labels is None:
                raise ModelError("exit: oracle needs the labels of what is predicted")
            gold = list(labels.flatten().tolist())
        texts = {key: value for key, value in inputs.items() if key != "attention_mask"}
        if self.batch_size == 1 or len(lengths) == 1:
            rows = enumerate(zip(lengths, gold, strict=True))
            return [self._alone(texts, row, length, label) for row, (length, label) in rows]
        return self._together(texts, lengths, gold)

    def _alone(self, texts: Mapping[str, Tensor], row: int, length: int, label: int | None) -> Left:
        """Predict one row by itself, without padding and mask."""
        decision, classes = Decision(self.rule, self.last, label), self.folded.classes
        own = {key: value[row : row + 1, :length] for key, value in texts.items()}
        hidden, calls = self.layerwise.begin(own)
        layer, held, summed = 0, list[Tensor](), [0.0] * (classes * len(self.layers))
        for number, last in enumerate(self.layers):
            for call in calls[layer : last + 1]:
                hidden = call(hidden)
            layer = last + 1
            held.append(self.folded.scores(number, hidden))
            if number in self.asked:
                for scores in held:  # those of one exit, or, where only the last is asked, of all
                    summed = list(map(add, summed[-scores.shape[1] :], scores[0].tolist()))
                held.clear()
                verdict = _verdict(summed[:classes], self.temperatures[number])
                if decision.leaves(number, verdict):
                    break
                summed = summed[classes:]
        return Left(verdict.answer, number, verdict.confidence)

    def _together(
        self, texts: Mapping[str, Tensor], lengths: list[int], gold: Sequence[int | None]
    ) -> list[Left]:
        """Predict many rows, in micro-batches that are regrouped after each classifier."""
        decisions = [Decision(self.rule, self.last, label) for label in gold]
        left: dict[int, Left] = {}
        exact = _exact(texts["input_ids"].device)
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        parts = _parts(order, self.batch_size)
        groups = [self._first_group(texts, rows, lengths) for rows in parts]
        first = 0
        for number in self.asked:
            for group in groups:
                self._advance(group, first, number)
            first = number + 1
            for row, verdict in self._verdicts(groups, number):
                if exact and decisions[row].doubtful(number, verdict):
                    left[row] = self._alone(texts, row, lengths[row], gold[row])
                elif decisions[row].leaves(number, verdict):
                    left[row] = Left(verdict.answer, number, verdict.confidence)
            groups = self._regrouped(groups, left, lengths)
        return [left[row] for row in range(len(lengths))]

    def _first_group(
        self, texts: Mapping[str, Tensor], rows: list[int], lengths: Sequence[int]
    ) -> _Group:
        length = lengths[rows[-1]]
        chosen = _index(rows, texts["input_ids"])
        inputs = {key: value[:, :length].index_select(0, chosen) for key, value in texts.items()}
        mask = _mask([lengths[row] for row in rows], chosen)
        if mask is not None:
            inputs["attention_mask"] = mask
        return _Group(rows, *self.layerwise.begin(inputs))

    def _advance(self, group: _Group, first: int, last: int) -> None:
        """Run the layers above classifier `first` - 1, up to classifier `last`."""
        layer = self.layers[first - 1] + 1 if first else 0
        for number, end in enumerate(self.layers[first : last + 1], start=first):
            for call in group.calls[layer : end + 1]:
                group.hidden = call(group.hidden)
            layer = end + 1
            scores = self.folded.scores(number, group.hidden)
            if group.scores is not None:
                scores = group.scores[:, -scores.shape[1] :] + scores
            group.scores = scores

    def _verdicts(self, groups: Sequence[_Group], number: int) -> Iterator[tuple[int, Verdict]]:
        """Yield a classifier's verdicts on the rows still here, with one transfer."""
        if not groups:
            return
        classes = self.folded.classes
        logits = torch.cat([g.scores[:, :classes] for g in groups if g.scores is not None])
        rows = [row for group in groups for row in group.rows]
        judged = _judged(logits, self.temperatures[number])
        for row, (answer, *numbers) in zip(rows, judged, strict=True):
            yield row, Verdict(int(answer), *numbers)

    def _regrouped(
        self, groups: Sequence[_Group], left: Mapping[int, Left], lengths: Sequence[int]
    ) -> list[_Group]:
        """Merge the rows that have not left into as few groups as hold them."""
        staying = [
            (number, place, row)
            for number, group in enumerate(groups)
            for place, row in enumerate(group.rows)
            if row not in left
        ]
        if len(staying) == sum(len(group.rows) for group in groups):
            return list(groups)
        return [self._gathered(groups, part, lengths) for part in _parts(staying, self.batch_size)]

    def _gathered(
        self, groups: Sequence[_Group], part: Sequence[tuple[int, int, int]], lengths: Sequence[int]
    ) -> _Group:
        """Make one group of rows from several, in the order of their lengths."""
        rows = [row for _, _, row in part]
        device = groups[0].hidden
        takes = [
            (groups[number], _index([place for _, place, _ in taken], device))
            for number, taken in groupby(part, key=itemgetter(0))
        ]
        length = lengths[rows[-1]]
        hidden = _cat([_cut(group.hidden, chosen, length) for group, chosen in takes])
        held = [(group.scores, chosen) for group, chosen in takes]
        scores = _cat([s.index_select(0, chosen) for s, chosen in held if s is not None])
        mask = _mask([lengths[row] for row in rows], device)
        return _Group(rows, hidden, self.layerwise.resume(hidden, mask), scores)


def _verdict(logits: Sequence[float], temperature: float) -> Verdict:
    """Judge one row on the host, the fastest place for a few numbers."""
    best = max(logits)
    answer = logits.index(best)
    total = math.fsum(math.exp((value - best) / temperature) for value in logits)
    return Verdict(answer, 1 / total)


def _judged(logits: Tensor, temperature: float) -> list[list[float]]:
    """Return each row's answer, confidence, margin and scale, in doubles as for a single row."""
    scaled = logits.double() / temperature
    best, answer = scaled.max(1)
    confidence = (scaled - best[:, None]).exp().sum(1).reciprocal()
    second = scaled.scatter(1, answer[:, None], -math.inf).amax(1)
    facts = [answer.double(), confidence, best - second, scaled.abs().amax(1)]
    return torch.stack(facts, 1).tolist()


def _log_odds(probability: float) -> float:
    return math.inf if probability >= 1 else math.log(probability) - math.log1p(-probability)


def _exact(device: torch.device) -> bool:
    """Check whether products are in float32, and not in bf16, fp16 or TF32."""
    tf32 = device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return not tf32 and not torch.is_autocast_enabled(device.type)


def _parts(values: Sequence[Element], size: int) -> list[list[Element]]:
    return [list(values[first : first + size]) for first in range(0, len(values), size)]


def _index(places: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(places, device=like.device)


def _mask(lengths: Sequence[int], like: Tensor) -> Tensor | None:
    """Mask ascending lengths: (rows, longest), or None, which is faster, if none is padded."""
    if lengths[0] == lengths[-1]:
        return None
    return (torch.arange(lengths[-1]) < torch.tensor(lengths)[:, None]).long().to(like.device)


def _cut(hidden: Tensor, chosen: Tensor, length: int) -> Tensor:
    """Choose rows, and cut or pad them to a length."""
    rows = hidden[:, :length].index_select(0, chosen)
    short = length - rows.shape[1]
    return functional.pad(rows, (0, 0, 0, short)) if short else rows


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
