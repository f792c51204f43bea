"""Run any Hugging Face encoder layer by layer, on fewer and fewer rows, without code per architecture.

The encoder's own forward pass is run with stand-ins in the place of its layers. They compute nothing and write down
what each layer would be called with: masks, rotary embeddings and whatever else the architecture passes. The layers are
then called one after the other with just that. Rows that go on in another batch have it made anew for their number and
length, with an empty tensor in the place of their embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from longwatt.models.errors import ModelError

TOLERANCE = 1e-4  # of the largest state; float32 sums in another order differ by far less
WORKS = "BERT, MiniLM, RoBERTa, DistilBERT, ELECTRA and ModernBERT are known to work"


@dataclass(frozen=True)
class Call:
    """What one layer is called with beside the hidden states."""

    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, hidden: Tensor) -> Tensor:
        """The layer's hidden states."""
        output = self.layer(hidden, *self.args, **self.kwargs)
        return output if isinstance(output, Tensor) else output[0]


@dataclass
class _Trace:
    """What the stand-ins saw: the hidden states, and how each layer would have been called."""

    hidden: Tensor | None = None
    calls: list[Call] = field(default_factory=list)


class _StandIn:
    """In the place of a layer: hands the hidden states on and writes down how it was called."""

    def __init__(self, layer: nn.Module, trace: _Trace, as_tuple: bool) -> None:
        self.layer, self.trace, self.as_tuple = layer, trace, as_tuple

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hidden, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        self.trace.hidden = hidden
        self.trace.calls.append(Call(self.layer, rest, kwargs))
        return (hidden, None) if self.as_tuple else hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)  # ModernBERT asks a layer for its kind of attention


class Layerwise:
    """An encoder's layers, to be run one by one.

    Args:
        encoder: a Hugging Face encoder.

    Raises:
        ModelError: the encoder is not built of embeddings, a list of layers and at most one module after them.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        if "embeddings" not in encoder._modules:
            raise ModelError(f"{_named(encoder)} has no module called embeddings; {WORKS}")
        self._holder, self._place = _layers_of(encoder)
        self._layers: Any = self._holder._modules[self._place]
        self._filler = _few_tokens(
            encoder, 1, 1
        )  # an id that is no padding, which kinds like RoBERTa look for
        with _evaluating(encoder):
            embedded, output = self._outputs()
            self._embedded_width = int(embedded.shape[-1])
            self._as_tuple = not isinstance(output, Tensor)
            self._final = self._find_final()

    def begin(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Call]]:
        """Embed a batch: the first layer's input (rows, length, width), and how each layer is to be called.

        Args:
            inputs: as the encoder takes them: input_ids (rows, length), attention_mask where there is padding, ...
        """
        trace, _ = self._trace(inputs)
        assert trace.hidden is not None
        return trace.hidden, trace.calls

    def resume(self, hidden: Tensor, attention_mask: Tensor | None) -> list[Call]:
        """How each layer is to be called for rows that were embedded before.

        Args:
            hidden: (rows, length, width).
            attention_mask: (rows, length); None where nothing is padded.
        """
        rows, length = hidden.shape[:2]
        # One element seen as many: the encoder asks it for nothing but its shape, type and device.
        empty = hidden.new_zeros(1).expand(rows, length, self._embedded_width)
        if self._filler.device != hidden.device:
            self._filler = self._filler.to(hidden.device)
        given = {"input_ids": self._filler.expand(rows, length)}
        if attention_mask is not None:
            given["attention_mask"] = attention_mask
        with _in_place(self.encoder, "embeddings", lambda *args, **kwargs: empty):
            return self._trace(given)[0].calls

    def first_token(self, hidden: Tensor) -> Tensor:
        """A text's state after a layer: its first token, normalised as the encoder's output is: (rows, width)."""
        first = hidden[:, 0]
        return first if self._final is None else self._final(first)

    def _trace(self, inputs: Mapping[str, Tensor]) -> tuple[_Trace, Any]:
        """Run the encoder without its layers: what they would have been called with, and what came out."""
        trace = _Trace()
        stand_ins = [_StandIn(layer, trace, self._as_tuple) for layer in self._layers]
        with _in_place(self._holder, self._place, stand_ins):
            return trace, self.encoder(**inputs)

    def _outputs(self) -> tuple[Tensor, Any]:
        """What the embeddings and a layer return."""
        seen: list[Any] = []
        watched = (self.encoder.embeddings, self._layers[0])
        with _hooked(watched, lambda module, given, output: seen.append(output)):  # type: ignore[arg-type]
            self.encoder(input_ids=_few_tokens(self.encoder))
        return seen[0], seen[1]

    def _find_final(self) -> nn.Module | None:
        """The module between the last layer's output and the encoder's; None if there is nothing."""
        seen: list[tuple[nn.Module, Any, Any]] = []
        others = [module for module in self.encoder.modules() if module is not self.encoder]
        with _hooked(
            others, lambda module, given, output: seen.append((module, given[:1], output))
        ):
            trace, result = self._trace({"input_ids": _few_tokens(self.encoder)})
        handed, output = trace.hidden, result[0]
        assert handed is not None
        if output is handed or torch.equal(output, handed):
            return None
        for module, given, made in seen:
            if made is output and given and given[0] is handed:
                return module
        raise ModelError(
            f"{_named(self.encoder)} does more after its last layer than one module does; {WORKS}"
        )


@torch.no_grad()
def check_layerwise(layerwise: Layerwise) -> None:
    """Compare an encoder's own forward pass with that by layers, of padded rows and of some of them regrouped.

    Raises:
        ModelError: they differ, or the encoder cannot be run so; names it.
    """
    encoder = layerwise.encoder
    with _evaluating(encoder):
        try:
            wrong = _difference(layerwise)
        except Exception as error:  # whatever an encoder of another make does
            raise ModelError(
                f"{_named(encoder)} cannot be run by layers ({error}); {WORKS}"
            ) from error
    if not wrong <= TOLERANCE:  # NaN is wrong too
        raise ModelError(
            f"{_named(encoder)} gives other states when it is run by layers (by {wrong:.1g} of the largest), as "
            f"encoders do whose layers share states, or in which padding counts; {WORKS}"
        )


def _difference(layerwise: Layerwise) -> float:
    """The largest difference of a first token's last state, as a part of the largest state."""
    lengths = torch.tensor([4, 7, 9])
    ids = _few_tokens(layerwise.encoder, 3, 9)
    mask = (torch.arange(9) < lengths[:, None]).long().to(ids.device)
    expected = layerwise.encoder(input_ids=ids, attention_mask=mask)[0][:, 0]
    hidden, calls = layerwise.begin({"input_ids": ids, "attention_mask": mask})
    kept, length = [0, 1], 7  # after the first layer the longest row is left out
    for number, _ in enumerate(calls):
        hidden = calls[number](hidden)
        if number == 0:
            hidden = hidden[kept, :length].contiguous()
            calls = layerwise.resume(hidden, mask[kept, :length])
    return float(
        (layerwise.first_token(hidden) - expected[kept]).abs().max() / expected.abs().max()
    )


def _layers_of(encoder: nn.Module) -> tuple[nn.Module, str]:
    """Where the list of the encoder's layers is: its parent, and its name there."""
    depth: Any = encoder.config.num_hidden_layers  # type: ignore[union-attr]
    found = [
        (parent, name)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList)
        and len(child) == depth
        and len({type(layer) for layer in child}) == 1
    ]
    if len(found) != 1:
        what = "several" if found else "no"
        raise ModelError(
            f"{_named(encoder)} has {what} lists of {depth} layers, so exits have no place; {WORKS}"
        )
    return found[0]


def _few_tokens(encoder: Any, rows: int = 1, length: int = 3) -> Tensor:
    """Random ids, the same every time; none of them is special in the vocabularies in use."""
    vocabulary = int(encoder.config.vocab_size)
    ids = torch.randint(
        vocabulary // 2, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0)
    )
    return ids.to(next(encoder.parameters()).device)


def _named(encoder: Any) -> str:
    return f"an encoder of the kind {encoder.config.model_type!r}"


@contextmanager
def _in_place(parent: nn.Module, name: str, other: Any) -> Iterator[None]:
    """Something else in the place of a submodule, which need not be a module."""
    modules: Any = parent._modules
    own = modules[name]
    modules[name] = other
    try:
        yield
    finally:
        modules[name] = own


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout and gradients."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
