"""Uniform spanning trees of a square grid, many at once, and the part that Wilson's algorithm has first.

A node is 0 to S-1, row by row, with S = side * side. Dimensions: n trees.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts

Nodes = NDArray[np.int32]
NONE = -1
"""no node"""

_ARROWS = 12  # divisible by 2, 3 and 4, the numbers of neighbours that a node can have


@cache
def beside(side: int) -> Nodes:
    """Neighbours of each node on the grid, ascending, NONE over the edge, int32 [S, 4]."""
    grid = np.pad(np.arange(side * side, dtype=np.int32).reshape(side, side), 1, constant_values=NONE)
    near = [grid[:-2, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:], grid[2:, 1:-1]]
    return np.stack(near, axis=-1).reshape(-1, 4)


@cache
def _arrows(side: int) -> NDArray[np.int64]:
    """Where each of a node's `_ARROWS` arrows leads, every neighbour equally often, int64 [S * 12]."""
    return np.concatenate([np.resize(row[row != NONE], _ARROWS) for row in beside(side)]).astype(np.int64)


def spanning_trees(rng: np.random.Generator, n: int, side: int) -> tuple[Nodes, Nodes]:
    """Uniform spanning trees of the whole grid: (parent int32 [n, S], root int32 [n]).

    Wilson's algorithm in its form with stacks (Wilson 1996, section 3): every node but the root shows
    a random arrow; while arrows form a cycle, the nodes of the cycle get new ones. The order in which
    cycles go does not matter, so those of all mazes go together.
    """
    size, arrows = side * side, _arrows(side)
    root = rng.integers(0, size, size=n, dtype=np.int32)
    tree = np.empty((n, size), dtype=np.int32)
    live = np.arange(n)  # mazes that may have a cycle
    # All arrows in one flat array, each the place there that it leads to; a root's leads to itself.
    here = np.arange(n * size)
    to = _redrawn(rng, here, arrows, size)
    to[live * size + root] = live * size + root
    fresh = here  # nodes with a new arrow: every new cycle has one
    while len(live):
        while len(fresh := _on_short_cycles(to, fresh)) > len(live) // 2:
            to[fresh] = _redrawn(rng, fresh, arrows, size)
        far = to
        for _ in range(int(size - 1).bit_length()):
            far = far[far]
        # after S steps or more along the arrows one is on a cycle or at the root
        on_cycle = np.zeros(len(here), dtype=np.bool_)
        on_cycle[far] = True
        on_cycle &= to != here
        again = on_cycle.reshape(-1, size).any(axis=1)
        local = to.reshape(-1, size) - here[::size, None]
        tree[live[~again]] = local[~again]
        live = live[again]
        here = here[: len(live) * size]
        to = (local[again] + here[::size, None]).ravel()
        fresh = np.flatnonzero(on_cycle.reshape(-1, size)[again])
        to[fresh] = _redrawn(rng, fresh, arrows, size)
    return tree, root


def _on_short_cycles(to: NDArray[Any], some: NDArray[Any]) -> NDArray[Any]:
    """Nodes of the cycles of two and four nodes (most are) through some of `some`, ascending."""
    one = to[some]
    two = to[one]
    three = to[two]
    closed = (to[three] == some) & (one != some)  # the root's arrow is no cycle
    mark = np.zeros(len(to), dtype=np.bool_)
    for places in (some, one, two, three):
        mark[places[closed]] = True
    return np.flatnonzero(mark)


def _redrawn(
    rng: np.random.Generator, places: NDArray[Any], arrows: NDArray[np.int64], size: int
) -> NDArray[Any]:
    """New arrows for nodes at these places of the flat array."""
    node = places % size
    drawn = arrows.take(node * _ARROWS + rng.integers(0, _ARROWS, size=len(places)))
    moved: NDArray[Any] = places - node + drawn
    return moved


def members(rng: np.random.Generator, parent: Nodes, root: Nodes, lengths: Counts) -> NDArray[np.bool_]:
    """Which nodes Wilson's algorithm has in after `lengths` nodes, bool [n, S].

    Its branches are paths of the final tree, from starts in random order to what is there already.
    So a node comes in with the first start below it, and of one branch the nodes far from the tree
    are cut.
    """
    n, size = parent.shape
    order = rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1)
    row = np.arange(n)
    order[row, root] = NONE  # the root is there before any start
    above = parent.astype(np.intp) + row[:, None] * size
    above, turn, depth = above.ravel(), order.ravel(), (above.ravel() != np.arange(n * size)).astype(np.int64)
    for _ in range(int(size - 1).bit_length()):
        # after k rounds: the earliest start up to 2**k below, the steps to the ancestor 2**k above
        early = turn.copy()
        np.minimum.at(early, above, turn)
        turn, depth, above = early, depth + depth[above], above[above]
    rank = (turn * size + depth).reshape(n, size)
    last = np.take_along_axis(np.sort(rank, axis=1), lengths[:, None] - 1, axis=1)
    inside: NDArray[np.bool_] = rank <= last
    return inside
