"""Run any Hugging Face encoder layer by layer, on fewer and fewer rows.

This needs no code per architecture. The encoder's own forward pass is run with stand-ins for its
layers. They compute nothing and record the arguments of each layer: masks, rotary embeddings and
whatever else the architecture passes. The layers are then called one by one with these arguments.
Rows that go on in another batch need new arguments, for their number and length; the forward pass
that makes them sees an empty tensor instead of embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from longwatt.models.errors import ModelError

TOLERANCE = 1e-4  # of the largest state; float32 sums in another order differ by far less
WORKS = "BERT, MiniLM, RoBERTa, DistilBERT, ELECTRA and ModernBERT are known to work"


@dataclass(frozen=True)
class Call:
    """A layer and its arguments beside the hidden states."""

    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the layer's hidden states."""
        output = self.layer(hidden, *self.args, **self.kwargs)
        return output if isinstance(output, Tensor) else output[0]


@dataclass
class _Trace:
    """A record of the stand-ins: the hidden states, and each layer's call."""

    hidden: Tensor | None = None
    calls: list[Call] = field(default_factory=list)


@dataclass(eq=False)
class _StandIn:
    """A stand-in for a layer that hands the hidden states on and records its call."""

    layer: nn.Module
    trace: _Trace
    as_tuple: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hidden, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        self.trace.hidden = hidden
        self.trace.calls.append(Call(self.layer, rest, kwargs))
        return (hidden, None) if self.as_tuple else hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)  # ModernBERT asks a layer for its kind of attention


class Layerwise:
    """A Hugging Face encoder's layers, to be run one by one.

    Raises:
        ModelError: the encoder is not embeddings, a list of layers and at most one module after.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        if "embeddings" not in encoder._modules:
            raise ModelError(f"{_named(encoder)} has no module called embeddings; {WORKS}")
        self._holder, self._place = _layers_of(encoder)
        self._layers = self._holder._modules[self._place]
        # An id that is no padding, which kinds like RoBERTa look for.
        self._filler = _few_tokens(encoder, 1, 1)
        seen: list[Any] = []
        with _evaluating(encoder):
            watched: Any = (encoder.embeddings, self._layers[0])
            with _hooked(watched, lambda *call: seen.append(call[2])):
                encoder(input_ids=_few_tokens(encoder))
            embedded, output = seen[:2]
            self._embedded_width = int(embedded.shape[-1])
            self._as_tuple = not isinstance(output, Tensor)
            self._final = self._find_final()

    def begin(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Call]]:
        """Return the first layer's input (rows, length, width), and the call of each layer."""
        trace, _ = self._trace(inputs)
        assert trace.hidden is not None
        return trace.hidden, trace.calls

    def resume(self, hidden: Tensor, attention_mask: Tensor | None) -> list[Call]:
        """Return the call of each layer for rows embedded before, unmasked if none is padded."""
        rows, length = hidden.shape[:2]
        # One element seen as many: the encoder only asks for its shape, type and device.
        empty = hidden.new_zeros(1).expand(rows, length, self._embedded_width)
        if self._filler.device != hidden.device:
            self._filler = self._filler.to(hidden.device)
        given = {"input_ids": self._filler.expand(rows, length)}
        if attention_mask is not None:
            given["attention_mask"] = attention_mask
        with _in_place(self.encoder, "embeddings", lambda *args, **kwargs: empty):
            return self._trace(given)[0].calls

    def first_token(self, hidden: Tensor) -> Tensor:
        """Return a layer's first tokens (rows, width), normalised like the encoder's output."""
        first = hidden[:, 0]
        return first if self._final is None else self._final(first)

    def _trace(self, inputs: Mapping[str, Tensor]) -> tuple[_Trace, Any]:
        """Run the encoder without its layers, and return their calls and its output."""
        trace = _Trace()
        stand_ins = [_StandIn(layer, trace, self._as_tuple) for layer in self._layers]
        with _in_place(self._holder, self._place, stand_ins):
            return trace, self.encoder(**inputs)

    def _find_final(self) -> nn.Module | None:
        """Find the module between the last layer's output and the encoder's, if there is one."""
        seen: list[tuple[nn.Module, Any, Any]] = []
        others = [module for module in self.encoder.modules() if module is not self.encoder]
        with _hooked(others, lambda *call: seen.append(call)):
            trace, result = self._trace({"input_ids": _few_tokens(self.encoder)})
        handed, output = trace.hidden, result[0]
        assert handed is not None
        if output is handed or torch.equal(output, handed):
            return None
        for module, given, made in seen:
            if made is output and given and given[0] is handed:
                return module
        what = f"{_named(self.encoder)} does more after its last layer than one module does"
        raise ModelError(f"{what}; {WORKS}")


@torch.no_grad()
def check_layerwise(layerwise: Layerwise) -> None:
    """Raise a ModelError unless an encoder's own pass and that by layers agree."""
    encoder = layerwise.encoder
    with _evaluating(encoder):
        try:
            wrong = _difference(layerwise)
        except Exception as error:  # whatever an encoder of another make does
            what = f"{_named(encoder)} cannot be run by layers ({error})"
            raise ModelError(f"{what}; {WORKS}") from error
    if not wrong <= TOLERANCE:  # NaN is wrong too
        raise ModelError(
            f"{_named(encoder)} gives other states when it is run by layers (by {wrong:.1g} of the "
            "largest), as encoders do whose layers share states, or in which padding counts; "
            f"{WORKS}"
        )


def _difference(layerwise: Layerwise) -> float:
    """Return the largest difference in a first token's last state, relative to the largest."""
    lengths = torch.tensor([4, 7, 9])
    ids = _few_tokens(layerwise.encoder, 3, 9)
    mask = (torch.arange(9) < lengths[:, None]).long().to(ids.device)
    expected = layerwise.encoder(input_ids=ids, attention_mask=mask)[0][:, 0]
    hidden, calls = layerwise.begin({"input_ids": ids, "attention_mask": mask})
    kept, length = [0, 1], 7  # after the first layer the longest row is left out
    for number in range(len(calls)):
        hidden = calls[number](hidden)
        if number == 0:
            hidden = hidden[kept, :length].contiguous()
            calls = layerwise.resume(hidden, mask[kept, :length])
    difference = (layerwise.first_token(hidden) - expected[kept]).abs().max()
    return float(difference / expected.abs().max())


def _layers_of(encoder: nn.Module) -> tuple[Any, str]:
    """Find the list of the encoder's layers: its parent, and its name there."""
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
        what = f"{'several' if found else 'no'} lists of {depth} layers"
        raise ModelError(f"{_named(encoder)} has {what}, so exits have no place; {WORKS}")
    return found[0]


def _few_tokens(encoder: Any, rows: int = 1, length: int = 3) -> Tensor:
    """Draw the same random ids every time, from where vocabularies have no special ones."""
    size, generator = int(encoder.config.vocab_size), torch.Generator().manual_seed(0)
    ids = torch.randint(size // 2, size, (rows, length), generator=generator)
    return ids.to(next(encoder.parameters()).device)


def _named(encoder: Any) -> str:
    return f"an encoder of the kind {encoder.config.model_type!r}"


@contextmanager
def _in_place(parent: nn.Module, name: str, other: Any) -> Iterator[None]:
    """Replace a submodule for a while, not necessarily by a module."""
    modules: Any = parent._modules
    own = modules[name]
    modules[name] = other
    try:
        yield
    finally:
        modules[name] = own


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(hook))
        yield


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Turn dropout and gradients off for a while."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
