"""Count how often intervals over examples hold a known truth, on made-up scores.

    .venv/bin/python -m bench.intervals [--samples 4000] [--qmsum qmsum.zip]

Every line sets intervals that take apart what belongs together (references of one example, two
scores of the same examples, seeds and examples) beside those that longwatt prints. With SCROLLS'
qmsum.zip, the validation split's first 60 words of each meeting are scored against its first 90.
`bench.equal_systems` does the same on real scores.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import command_line
from longwatt import metrics
from longwatt.metrics.resampling import Ends, Resampling, Sample, Scores, interval_of
from longwatt.metrics.score_intervals import over_examples, paired_difference
from longwatt.metrics.seed_intervals import of_difference, over_seeds

Array = NDArray[Any]
RESAMPLES = 1000


class Rates(NamedTuple):
    """Shares of intervals that lie below the truth, hold it, or lie above it."""

    below: float
    holds: float
    above: float

    def __str__(self) -> str:
        """Say them in per cent."""
        shares = (self.holds, self.below, self.above)
        holds, below, above = (f"{100 * share:.1f} %" for share in shares)
        return f"{holds} hold the truth, {below} lie below, {above} above"


Apart = Callable[[np.random.Generator, Resampling], tuple[Ends, Ends]]


def rates(truth: float, made: Sequence[Ends]) -> Rates:
    """Count the intervals that lie below the truth, hold it, and lie above it."""
    below = float(np.mean([high < truth for _, high in made]))
    above = float(np.mean([low > truth for low, _ in made]))
    return Rates(below, 1 - below - above, above)


def apart_and_together(simulate: Apart, samples: int, truth: float) -> tuple[Rates, Rates]:
    """Draw samples and judge both kinds of interval."""
    source = np.random.default_rng(0)
    pairs = [simulate(source, Resampling(RESAMPLES, 0.95, seed)) for seed in range(samples)]
    apart, together = zip(*pairs, strict=True)
    return rates(truth, apart), rates(truth, together)


def scores(values: Array, how: Resampling, examples: Sequence[str] | None = None) -> Scores:
    """Make one cell's scores of examples, or of references that belong to some."""
    names = [str(n) for n in range(len(values))] if examples is None else examples
    return Scores([Sample.of(names, values[:, None])], how)


def paired(first: Scores, second: Scores) -> Ends:
    """Find the interval of a difference as claims and comparisons do."""
    found = paired_difference(first, second, same_seeds=True)
    assert found is not None, "both have the same examples"
    return found.ends


def each_reference(source: np.random.Generator, how: Resampling) -> tuple[Ends, Ends]:
    """Draw 100 examples of mean 40 with about two references each, alike in difficulty."""
    counts = 1 + source.poisson(1.0, 100)
    hard = np.repeat(source.normal(40, 12, 100), counts)
    values = source.normal(hard, 10)
    examples = np.repeat([str(n) for n in range(100)], counts).tolist()
    return interval_of(scores(values, how)).ends, over_examples(scores(values, how, examples)).ends


def beside_the_lead(source: np.random.Generator, how: Resampling) -> tuple[Ends, Ends]:
    """Draw 200 examples on which a model and the lead baseline are equally good."""
    ours, lead = (scores(source.normal(30, 12, 200), how) for _ in range(2))
    low, high = interval_of(ours).ends
    return (low - lead.value, high - lead.value), paired(ours, lead)


def two_models(source: np.random.Generator, how: Resampling) -> tuple[Ends, Ends]:
    """Draw 200 examples that are hard or easy for two equally good models alike."""
    hard = source.normal(40, 15, 200)
    first, second = (scores(source.normal(hard, 6), how) for _ in range(2))
    known = [(one.value, *interval_of(one).ends) for one in (first, second)]
    return of_difference(known[0], known[1]), paired(first, second)


def three_seeds(source: np.random.Generator, how: Resampling) -> tuple[Ends, Ends]:
    """Draw 60 examples for three seeds of two models (apart: over seeds alone)."""
    hard = source.normal(40, 15, 60)
    sides = []
    for _ in range(2):
        model = hard + source.normal(0, 10, 60)  # what it finds hard, whatever the seed
        seeds = [source.normal(model + source.normal(0, 0.5), 3) for _ in range(3)]
        sides.append(Scores([sample for one in seeds for sample in scores(one, how).samples], how))
    first, second = sides
    return over_seeds(first.by_seed - second.by_seed), paired(first, second)


def nearly_all_right(source: np.random.Generator, how: Resampling) -> tuple[Ends, Ends]:
    """Draw 50 examples, each right with 98 % (apart: the bootstrap alone)."""
    right = 100.0 * (source.random(50) < 0.98)
    found = scores(right, how)
    low, high = np.percentile(found.draws, [2.5, 97.5])
    return (float(low), float(high)), over_examples(found).ends


SIMULATIONS: dict[str, tuple[Apart, float]] = {
    "each reference counts: references apart / by example": (each_reference, 40),
    "against the lead: lead exact / paired": (beside_the_lead, 0),
    "two models: apart / paired": (two_models, 0),
    "two models of three seeds: over seeds / over seeds and examples": (three_seeds, 0),
    "98 % of 50 right: bootstrap / Wilson": (nearly_all_right, 98),
}


def qmsum(path: Path) -> tuple[float, Ends, Ends]:
    """Compare the first 90 words of QMSum's documents with the first 60, unpaired and paired."""
    with zipfile.ZipFile(path) as archive, archive.open("qmsum/validation.jsonl") as stream:
        rows = [json.loads(line) for line in stream]
    references = {row["id"]: [row["output"]] for row in rows}
    sides = []
    for words in (90, 60):
        # The query, a blank line, the document.
        documents = {row["id"]: row["input"].split("\n\n", 1)[1].split() for row in rows}
        said = {name: " ".join(document[:words]) for name, document in documents.items()}
        found = metrics.score_examples(said, references, ("rouge",))
        sides.append(Scores([metrics.text_sample(found, "rouge")], Resampling()))
    first, second = sides
    known = [(one.value, *interval_of(one).ends) for one in sides]
    return first.value - second.value, of_difference(known[0], known[1]), paired(first, second)


def main() -> None:
    """Print the shares of every simulation, and QMSum's intervals if it is given."""
    parser = command_line(__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--qmsum", type=Path)
    given = parser.parse_args()
    for name, (simulate, truth) in SIMULATIONS.items():
        both_kinds = apart_and_together(simulate, given.samples, truth)
        for kind, found in zip(("apart", "together"), both_kinds, strict=True):
            print(f"{name}: {kind}: {found}", flush=True)
    if given.qmsum:
        value, *both = qmsum(given.qmsum)
        shown = " / ".join("({:.2f}, {:.2f})".format(*ends) for ends in both)
        print(f"QMSum, first 90 words less first 60: {value:.2f}, unpaired / paired: {shown}")


if __name__ == "__main__":
    main()
