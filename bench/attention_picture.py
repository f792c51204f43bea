"""Draw which keys a query sees in LED and in BigBird, for docs/explanation/attention.md.

    python -m bench.attention_picture [--out docs/images]

The squares come from the functions by which a GPU computes, at a size that one can see.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from bench import command_line
from longwatt.layout import drawing
from longwatt.models.attention import flex

ROOT = Path(__file__).parent.parent
NAME = "attention_patterns"
TOKENS, REACH = 48, 6
BLOCKS, RANDOM = 16, 2
KINDS = ("not computed", "window", "global", "random (in training)")
NONE, NEAR, GLOBAL, DRAWN = range(4)


def led_kinds() -> Tensor:
    """Return the kind of each pair of one document's tokens in LED (queries, keys)."""
    mask = flex.band_mask((TOKENS,), REACH, torch.device("cpu"))
    seen = create_mask(mask.mask_mod, 1, 1, TOKENS, TOKENS, device="cpu")[0, 0]
    place = torch.arange(TOKENS)
    near = (place[:, None] - place).abs() <= REACH
    kinds = torch.where(seen & near, NEAR, NONE)
    kinds[seen & ~near] = GLOBAL
    kinds[0], kinds[:, 0] = GLOBAL, GLOBAL
    return kinds


def bigbird_kinds() -> Tensor:
    """Return the kind of each pair of one document's blocks in BigBird (queries, keys)."""
    place = torch.arange(BLOCKS)
    near = (place[:, None] - place).abs() <= 1
    free = (~near)[1:-1].float()
    free[:, 0] = free[:, -1] = 0
    drawn = free.multinomial(RANDOM, generator=torch.Generator().manual_seed(0))
    counts = flex.SparseCounts.of(drawn[None], 1).counts[0]
    kinds = torch.where(counts > 0, DRAWN, NONE)
    kinds[near] = NEAR
    for end in (0, BLOCKS - 1):
        kinds[end], kinds[:, end] = GLOBAL, GLOBAL
    return kinds


def draw() -> Figure:
    """Draw both patterns side by side."""
    with drawing.look():
        figure, (left, right) = drawing.panels(2, 4.6)
        shades = [style["color"] for style in drawing.styles(KINDS[1:]).values()]
        colours = ListedColormap(["white", *shades])
        _panel(left, led_kinds(), colours, "LED: a window and the first token", "token")
        name = "BigBird: window, ends, random blocks"
        _panel(right, bigbird_kinds(), colours, name, "block of tokens")
        handles = [
            Patch(facecolor=colours(number), edgecolor="0.6", label=kind)
            for number, kind in enumerate(KINDS)
        ]
        drawing.legend(figure, handles, ncols=len(KINDS))
    return figure


def _panel(axis: Axes, kinds: Tensor, colours: ListedColormap, title: str, what: str) -> None:
    norm = BoundaryNorm([number - 0.5 for number in range(len(KINDS) + 1)], len(KINDS))
    lines = {"edgecolors": "0.85", "linewidth": 0.4}
    axis.pcolormesh(kinds.numpy(), cmap=colours, norm=norm, **lines)
    axis.set(title=title, xlabel=f"key: {what}", ylabel=f"query: {what}")
    axis.invert_yaxis()
    axis.set_aspect("equal")
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Draw and write."""
    parser = command_line(__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    print(*drawing.save(draw(), parser.parse_args().out / NAME, kinds=("png",)))


if __name__ == "__main__":
    main()
