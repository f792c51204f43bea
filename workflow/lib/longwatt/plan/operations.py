"""Operations of a forward pass, by what the backward pass makes of them.

Read at parse time: the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

DORA = "dora"
# Names that libraries give to the matrices of a layer, by what these do.
QUERY_WEIGHTS = ("q_proj", "query", "q", "q_lin")
KEY_WEIGHTS = ("k_proj", "key", "k", "k_lin")
VALUE = ("v_proj", "value", "v", "v_lin")
ATTENDING = ("c_attn", "qkv_proj", "query_key_value", "Wqkv")  # the three above as one matrix
MIXING = ("o_proj", "out_proj", "dense", "o", "out_lin", "output", "c_proj", "Wo")
INNER = ("up_proj", "fc1", "c_fc", "wi", "wi_1", "lin1", "dense", "dense_h_to_4h", "Wi")
GATE = ("gate_proj", "wi_0")
GATED_INNER = ("gate_up_proj",)  # the inner matrix and its gate as one
OUTER = ("down_proj", "fc2", "c_proj", "wo", "lin2", "dense", "dense_4h_to_h", "Wo")


@dataclass(frozen=True)
class Matrix:
    """A weight matrix of a layer.

    Attributes:
        names: by any of which a study may ask for an adapter of it.
        inputs, outputs: its width on either side.
        first: whether it multiplies what enters the layer. In the first layer that is the
            embedding, which takes no gradient where it is frozen.
    """

    names: tuple[str, ...]
    inputs: int
    outputs: int
    first: bool = False

    @property
    def weights(self) -> int:
        """Number of its weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class PassOperations:
    """Floating-point operations of one forward pass.

    Attributes:
        weights: products with the layers' weights.
        attention: products of queries with keys, and of their shares with values.
        head: products with the output layer.
        adapters: products with the adapters' matrices.
        blind: those of `weights` whose inputs take no gradient where the weights are frozen.
        blind_adapters: those of `adapters`, likewise.
        remade: for each batch rather than each example: DoRA multiplies its two matrices out, for
            a length through which no gradient runs.
    """

    weights: float = 0.0
    attention: float = 0.0
    head: float = 0.0
    adapters: float = 0.0
    blind: float = 0.0
    blind_adapters: float = 0.0
    remade: float = 0.0

    def __add__(self, other: PassOperations) -> PassOperations:
        """Add two passes up."""
        names = (field.name for field in fields(self))
        return PassOperations(
            **{name: getattr(self, name) + getattr(other, name) for name in names}
        )

    def times(self, factor: float) -> PassOperations:
        """Return those of so many examples, which share what is remade for a batch."""
        names = (field.name for field in fields(self) if field.name != "remade")
        return PassOperations(
            **{name: factor * getattr(self, name) for name in names}, remade=self.remade
        )

    @property
    def forward(self) -> float:
        """All of the pass."""
        return self.weights + self.attention + self.head + self.adapters + self.remade

    def training(self, frozen: bool, recomputed: bool) -> float:
        """Return the operations of a forward and a backward pass.

        The backward pass multiplies once for the gradient of a product's one side and once for that
        of its other side. Frozen weights need no gradient, and adapters' own matrices do.

        Args:
            frozen: whether all weights but the adapters' are.
            recomputed: whether activation checkpointing repeats the forward pass of the layers.
        """
        of_weights = self.weights - self.blind if frozen else 2 * self.weights
        of_head = self.head if frozen else 2 * self.head
        of_adapters = 2 * self.adapters - self.blind_adapters
        again = self.forward - self.head if recomputed else 0.0
        return self.forward + of_weights + of_head + of_adapters + 2 * self.attention + again


@dataclass(frozen=True)
class PlannedAdapters:
    """Adapters of low rank as a study asks for them.

    Attributes:
        rank: of each of them.
        dora: whether weights are taken apart into length and direction.
        dropout: whether their inputs are dropped out.
        targets: names of the matrices that have one; empty for all of them.
    """

    rank: int
    dora: bool = False
    dropout: bool = False
    targets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, lora: Mapping[str, Any] | None) -> PlannedAdapters | None:
        """Read a model's `lora`, None where all its weights are trained."""
        if lora is None:
            return None
        names = lora.get("target_modules") or ()
        return cls(
            rank=int(lora.get("rank", 16)),
            dora=lora.get("kind") == DORA,
            dropout=bool(lora.get("dropout")),
            targets=frozenset(str(name).rpartition(".")[2] for name in names),
        )

    def adapts(self, matrix: Matrix) -> bool:
        """Check whether a matrix has an adapter."""
        return not self.targets or not self.targets.isdisjoint(matrix.names)


def products(
    matrices: Iterable[Matrix],
    tokens: float,
    layers: int,
    adapters: PlannedAdapters | None,
    rest: float = 0.0,
) -> PassOperations:
    """Return the operations of all layers' matrices.

    Args:
        matrices: of one layer.
        tokens: multiplied with each of them.
        layers: how many there are.
        adapters: of the matrices; None where there are none.
        rest: weights of a layer beside its matrices', by which tokens are multiplied.
    """
    matrices = list(matrices)
    weights = 2 * tokens * layers * (sum(matrix.weights for matrix in matrices) + rest)
    blind = 2 * tokens * sum(matrix.weights for matrix in matrices if matrix.first)
    found = PassOperations(weights=weights, blind=blind)
    if adapters is None:
        return found
    for matrix in filter(adapters.adapts, matrices):
        found += _adapter(matrix, adapters, tokens, layers)
    return found


def _adapter(
    matrix: Matrix, adapters: PlannedAdapters, tokens: float, layers: int
) -> PassOperations:
    """Return the operations of a matrix's adapter in all layers."""
    rank, blind = adapters.rank, matrix.first
    own = PassOperations(
        adapters=2 * tokens * layers * rank * (matrix.inputs + matrix.outputs),
        blind_adapters=2 * tokens * rank * matrix.inputs if blind else 0.0,
    )
    if not adapters.dora:
        return own
    # The library multiplies both matrices with a unit matrix. With dropout the frozen matrix
    # multiplies the inputs once more.
    unit = 2 * layers * rank * (matrix.inputs * matrix.inputs + matrix.weights)
    again = 2 * tokens * matrix.weights if adapters.dropout else 0.0
    return own + PassOperations(
        remade=unit, weights=layers * again, blind=again if matrix.first else 0.0
    )
