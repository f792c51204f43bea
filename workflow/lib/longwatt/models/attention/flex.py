"""LED's band and BigBird's blocks on CUDA devices, by torch's FlexAttention.

FlexAttention compiles a kernel from two functions: one says which key a query sees, the other
changes a score. A table of kernel blocks lets the kernel pass over what nobody sees. All documents
of a batch lie one after another in one sequence.

A kernel is compiled for each length of that sequence. Lengths are therefore rounded up to few
sizes. A token of the rest is a document of its own, which sees only itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from longwatt.models.attention.band import Band
from longwatt.models.attention.packing import Packing

KERNEL = 128  # tokens of a kernel's block: torch's own tiles of every GPU divide it
LEAST_HEAD, MOST_HEAD = 16, 256  # sizes of a head for which torch has tiles
# Least compute capability of a GPU: for Triton, and for torch to compile bf16.
LEAST_CAPABILITY, LEAST_BF16 = (7, 0), (8, 0)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Kernels that may be compiled: beyond it torch would go on without one, with all scores in memory.
KERNELS = 256

# Both take numbers of batch, head, query and key; the second a score before them.
Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Changes = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def device_refusal(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Say why a device cannot take the fast path, or return None."""
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"the fast path runs on cpu and cuda, and this device is {device.type}"
    if not LEAST_HEAD <= head_size <= MOST_HEAD:
        sizes = f"{LEAST_HEAD} to {MOST_HEAD}"
        return f"a head holds {head_size} numbers, and FlexAttention on a GPU takes {sizes}"
    if dtype not in DTYPES:
        names = ", ".join(str(kind).removeprefix("torch.") for kind in DTYPES)
        return f"numbers are {str(dtype).removeprefix('torch.')}, and FlexAttention takes {names}"
    return _compiler_refusal(device, dtype)


def _compiler_refusal(device: torch.device, dtype: torch.dtype) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "torch compiles for a GPU by Triton, which is not installed"
    least = LEAST_BF16 if dtype == torch.bfloat16 else LEAST_CAPABILITY
    if (found := torch.cuda.get_device_capability(device)) < least:
        need, own = (".".join(map(str, capability)) for capability in (least, found))
        kind = "bf16" if least == LEAST_BF16 else "any type"
        return f"kernels of {kind} need compute capability {need}, and this GPU has {own}"
    return None


def rounded(tokens: int) -> int:
    """Round a length up to one of four sizes between two powers of two."""
    step = max(KERNEL, 1 << max(0, tokens.bit_length() - 3))
    return -(-tokens // step) * step


def flex_band_attention(qkv: Tensor, first: Tensor, band: Band, heads: int) -> Tensor:
    """Attend as `band_attention` does, by FlexAttention."""
    seen = band_mask(band.packing.lengths, band.reach, qkv.device)
    out = _attend(qkv, heads, seen, None)
    return out.index_copy(0, band.packing.starts, first.to(out.dtype))


@lru_cache(maxsize=32)
def band_mask(lengths: tuple[int, ...], reach: int, device: torch.device) -> BlockMask:
    """Describe the band of packed documents, each document's first token seen by all of it."""
    begins = document_begins(lengths, rounded(sum(lengths)), device)
    return _block_mask(*band_blocks(begins, reach), band_sees(begins, reach), len(begins))


def document_begins(lengths: tuple[int, ...], size: int, device: torch.device) -> Tensor:
    """Return where each token's document begins (size). The rest begin at themselves."""
    places = torch.arange(size, dtype=torch.int32, device=device)
    counts = torch.tensor(lengths, device=device)
    starts = (counts.cumsum(0) - counts).to(torch.int32)
    return torch.cat([starts.repeat_interleave(counts), places[sum(lengths) :]])


def band_sees(begins: Tensor, reach: int) -> Sees:
    """Make the function that says which key a query sees in LED's window."""

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = (query - key).abs() <= reach
        return (begins[query] == begins[key]) & (near | (key == begins[query]))

    return sees


def band_blocks(begins: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Mark kernel blocks of which some pair and of which every pair sees each other.

    Documents lie in order, so that two blocks share one if and only if the earlier block's last
    token and the later block's first are of the same.

    Args:
        begins: where the document of each token begins.

    Returns:
        Two masks (1, 1, query blocks, key blocks).
    """
    firsts, lasts = begins[::KERNEL], begins[KERNEL - 1 :: KERNEL]
    number = torch.arange(len(firsts), device=begins.device)
    apart = (number[:, None] - number).abs()
    later, earlier = torch.maximum(number[:, None], number), torch.minimum(number[:, None], number)
    meet = (apart == 0) | (lasts[earlier] == firsts[later])
    near = (apart - 1) * KERNEL + 1 <= reach
    to_first = number == (firsts // KERNEL)[:, None]
    inside = (firsts[earlier] == lasts[later]) & ((apart + 1) * KERNEL - 1 <= reach)
    return ((meet & near) | to_first)[None, None], inside[None, None]


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """How often each query block of BigBird sees each key block, by head.

    Attributes:
        counts: (heads, blocks, blocks), of whole numbers.
        block: tokens of a block.
    """

    counts: Tensor
    block: int

    @classmethod
    def of(cls, drawn: Tensor, block: int) -> SparseCounts:
        """Count the global blocks, the window and drawn blocks.

        The first and the last block see all blocks once. Any other sees both of them, itself and
        its neighbours once, and each of its drawn blocks once more than that.

        Args:
            drawn: random blocks of all query blocks but both ends (heads, blocks - 2, random).
        """
        heads, inner, _ = drawn.shape
        number = torch.arange(inner + 2, device=drawn.device)
        ends = (number == 0) | (number == inner + 1)
        window = (number[:, None] - number).abs() <= 1
        once = (window | ends | ends[:, None]).to(torch.int32)
        counts = once.expand(heads, -1, -1).clone()
        more = torch.ones_like(drawn, dtype=torch.int32)
        counts[:, 1:-1].scatter_add_(2, drawn, more)
        return cls(counts, block)

    @cached_property
    def logs(self) -> Tensor:
        """Return what a repeated block adds to its scores (heads, blocks, blocks)."""
        return self.counts.clamp(min=1).to(torch.float32).log()


@dataclass(frozen=True)
class Places:
    """Rows and blocks of the tokens of one sequence.

    Attributes:
        row: number of the row of each token, and one of its own for a token of no row.
        block: number of the block of each token in its row.
        rows: rows there are.
    """

    row: Tensor
    block: Tensor
    rows: int

    @classmethod
    def of(cls, packing: Packing, block: int) -> Places:
        """Place packed tokens, and round their number up."""
        tokens = sum(packing.lengths)
        rest = torch.arange(rounded(tokens) - tokens, device=packing.device)
        row = torch.cat([packing.row_of, packing.rows + rest])
        number = functional.pad(packing.positions // block, (0, len(rest)))
        return cls(row.to(torch.int32), number.to(torch.int32), packing.rows)


def flex_block_attention(qkv: Tensor, packing: Packing, sparse: SparseCounts, heads: int) -> Tensor:
    """Attend by BigBird's pattern over packed tokens, by FlexAttention.

    Args:
        qkv: queries, keys and values side by side (tokens, 3 x width), not scaled.

    Returns:
        Outputs of all heads (tokens, width).
    """
    mask, changes = block_mask(packing, sparse)
    return _attend(qkv, heads, mask, changes)


@lru_cache(maxsize=32)  # masks of a layer each
def block_mask(packing: Packing, sparse: SparseCounts) -> tuple[BlockMask, Changes]:
    """Describe BigBird's pattern, and what it adds to scores."""
    places = Places.of(packing, sparse.block)
    blocks, sees = sparse_blocks(places, sparse), block_sees(places, sparse)
    return _block_mask(*blocks, sees, len(places.row)), block_changes(places, sparse)


def block_sees(places: Places, sparse: SparseCounts) -> Sees:
    """Make the function that says which key a query sees in BigBird's pattern."""
    row, block, counts = places.row, places.block, sparse.counts

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (row[query] == row[key]) & (counts[head, block[query], block[key]] > 0)

    return sees


def block_changes(places: Places, sparse: SparseCounts) -> Changes:
    """Make the function that counts a key as often as its block is seen."""
    block, logs = places.block, sparse.logs

    def changes(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + logs[head, block[query], block[key]]

    return changes


def sparse_blocks(places: Places, sparse: SparseCounts) -> tuple[Tensor, Tensor]:
    """Mark kernel blocks of which some pair and of which every pair sees each other.

    Returns:
        Two masks (1, heads, query blocks, key blocks).
    """
    # Doubles hold every count of pairs exactly, also where other products are rounded.
    held = _tokens_held(places, sparse.counts.shape[1]).double()
    seen = (sparse.counts > 0).double()
    pairs = torch.einsum("rqi,hij,rkj->hqk", held, seen, held)
    alone = torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    return ((pairs > 0) | alone)[None], (pairs == KERNEL**2)[None]


def _tokens_held(places: Places, blocks: int) -> Tensor:
    """Count the tokens of each row's blocks in each kernel block (rows, kernel blocks, blocks)."""
    kernels = len(places.row) // KERNEL
    kernel = torch.arange(len(places.row), device=places.row.device) // KERNEL
    bins = (places.row.long() * kernels + kernel) * blocks + places.block
    counted = bins[places.row < places.rows]
    found = torch.bincount(counted, minlength=places.rows * kernels * blocks)
    return found.view(places.rows, kernels, blocks)


def _block_mask(some: Tensor, every: Tensor, sees: Sees, size: int) -> BlockMask:
    parts = (*_in_order(some & ~every), *_in_order(every))
    mask: BlockMask = BlockMask.from_kv_blocks(
        *parts, BLOCK_SIZE=KERNEL, mask_mod=sees, seq_lengths=(size, size)
    )
    return mask


def _in_order(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Count the marked key blocks of each query block, and list them before all others."""
    numbers = marked.to(torch.int32)
    order = numbers.argsort(stable=True, dim=-1, descending=True)
    return numbers.sum(-1).to(torch.int32), order.to(torch.int32).contiguous()


def _attend(qkv: Tensor, heads: int, mask: BlockMask, changes: Changes | None) -> Tensor:
    tokens, size = len(qkv), mask.shape[-1]
    padded = functional.pad(qkv, (0, 0, 0, size - tokens))
    query, key, value = padded.view(size, 3, heads, -1).permute(1, 2, 0, 3)[:, None]
    attend: Callable[..., Tensor] = flex_attention
    if qkv.device.type == "cuda":
        attend = _advised(_compiled())
    out = attend(query, key, value, score_mod=changes, block_mask=mask)
    return out[0, :, :tokens].transpose(0, 1).flatten(1)


def _advised(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Add to an error of a kernel what a study can do about it."""

    def advised(*tensors: Tensor, **given: Any) -> Tensor:
        try:
            return attend(*tensors, **given)
        except Exception as error:
            error.add_note(
                "FlexAttention failed; `attention: stock` in the model's entry avoids it"
            )
            raise

    return advised


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    """Compile FlexAttention, once for each size that it meets."""
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, KERNELS)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 4 * KERNELS)
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)
