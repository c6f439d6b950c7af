"""Maze tasks: paths through partial uniform spanning trees of a square grid (paper, section 3.1).

Nodes are ``[1]`` to ``[side * side]``, row by row. Many mazes are drawn at once; within this module a
node is 0 to S-1 with S = side * side.

Dimensions: n mazes, S nodes of the grid, L the largest number of nodes in a maze.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, permutations
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first, join, pack
from data_builders.registry import Family, Option, one_of, register_task, whole_number
from data_builders.symbols import FIRST_NODE, LAST_NODE, PAD, char

Nodes = NDArray[np.int32]
NONE = -1
LARGEST_SIDE = int(LAST_NODE**0.5)

_ARROWS = 12  # divisible by 2, 3 and 4, the numbers of neighbours that a node can have


@dataclass(frozen=True)
class Mazes:
    """n trees on a grid, each with a start and a goal, in the order in which they are written."""

    nodes: Nodes
    """int32 [n, L], the nodes in the order of the adjacency list, NONE beyond a maze's length"""
    neighbours: Nodes
    """int32 [n, S, 4], each node's neighbours in listed order, with NONE before, between or after"""
    start: Nodes
    """int32 [n]"""
    goal: Nodes
    """int32 [n]"""

    def prompt(self) -> NDArray[np.int16]:
        """Adjacency list and query, int16 [n, 5 * L + 3]."""
        n, longest = self.nodes.shape
        here = self.nodes != NONE
        listed = np.take_along_axis(self.neighbours, np.maximum(self.nodes, 0)[..., None], axis=1)
        # node : neighbours ;
        entry = np.empty((n, longest, 7), dtype=np.int16)
        entry[..., 0] = _codes(self.nodes)
        entry[..., 1] = char(":")
        entry[..., 2:6] = _codes(listed)
        entry[..., 6] = char(";")
        keep = np.repeat(here[..., None], 7, axis=2)
        keep[..., 2:6] &= listed != NONE
        start, goal = _codes(self.start[:, None]), _codes(self.goal[:, None])
        query: list[Any] = [char("?"), start, char(">"), goal, char("=")]
        # every maze of k nodes has 2 (k - 1) neighbours listed, so this cuts padding only
        return join(n, [(entry.reshape(n, -1), keep.reshape(n, -1)), *query])[:, : 5 * longest + 3]

    def towards_start(self) -> Nodes:
        """Each node's neighbour on the way to the start, NONE for the start, int32 [n, S]."""
        n, size, _ = self.neighbours.shape
        towards = np.full((n, size), NONE, dtype=np.int32)
        row, at = np.arange(n), self.start.astype(np.intp)
        seen = np.zeros((n, size), dtype=np.bool_)
        seen[row, at] = True
        while len(row):
            # one generation of all trees at once: each node hands itself to its unseen neighbours
            near = self.neighbours[row, at]
            fresh = (near != NONE) & ~seen[row[:, None], near]
            which, _ = np.nonzero(fresh)
            there = near[fresh]
            towards[row[which], there] = at[which]
            seen[row[which], there] = True
            row, at = row[which], there.astype(np.intp)
        return towards


def _codes(nodes: Nodes) -> NDArray[np.int16]:
    """Symbol codes of nodes, in which `[1]` is node 0."""
    return (nodes + (FIRST_NODE + 1)).astype(np.int16)


def maze(text: str, *, side: int = 8) -> Mazes:
    """One given maze, written as in a prompt."""
    listed, start, goal = parse_maze(text)
    neighbours = np.full((1, side * side, 4), NONE, dtype=np.int32)
    for node, near in listed.items():
        neighbours[0, node - 1, : len(near)] = [k - 1 for k in near]
    nodes, ends = np.array([[*listed]], dtype=np.int32) - 1, np.array([start, goal], dtype=np.int32) - 1
    return Mazes(nodes, neighbours, ends[:1], ends[1:])


_PROMPT = re.compile(r"((?:\[\d+\]:(?:\[\d+\])+;)+)\?\[(\d+)\]>\[(\d+)\]=")


def parse_maze(prompt: str) -> tuple[dict[int, list[int]], int, int]:
    """Neighbours of each node in listed order, start and goal of a prompt's text.

    Raises:
        ValueError: the text is no maze's prompt.
    """
    found = _PROMPT.fullmatch(prompt)
    if not found:
        raise ValueError(f"{prompt!r} is not the prompt of a maze")
    entries = [[int(k) for k in re.findall(r"\d+", part)] for part in found[1].split(";")[:-1]]
    return {node: near for node, *near in entries}, int(found[2]), int(found[3])


@cache
def _beside(side: int) -> Nodes:
    """Neighbours of each node on the grid, ascending, NONE over the edge, int32 [S, 4]."""
    grid = np.pad(np.arange(side * side, dtype=np.int32).reshape(side, side), 1, constant_values=NONE)
    near = [grid[:-2, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:], grid[2:, 1:-1]]
    return np.stack(near, axis=-1).reshape(-1, 4)


@cache
def _arrows(side: int) -> NDArray[np.int64]:
    """Where each of a node's `_ARROWS` arrows leads, every neighbour equally often, int64 [S * 12]."""
    return np.concatenate([np.resize(row[row != NONE], _ARROWS) for row in _beside(side)]).astype(np.int64)


def _spanning_trees(rng: np.random.Generator, n: int, side: int) -> tuple[Nodes, Nodes]:
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


def _members(rng: np.random.Generator, parent: Nodes, root: Nodes, lengths: Counts) -> NDArray[np.bool_]:
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


_ORDERS = np.array([*permutations(range(4))], dtype=np.intp)


def draw_mazes(rng: np.random.Generator, lengths: Counts, *, side: int, order: str) -> Mazes:
    """Draw mazes with exactly `lengths` nodes, and two different nodes of each."""
    n, size, longest = len(lengths), side * side, int(lengths.max(initial=2))
    parent, root = _spanning_trees(rng, n, side)
    inside = _members(rng, parent, root, lengths)
    # A node's neighbours in the tree lie where its parent is, or where a node is whose parent it is.
    near = _beside(side)
    joined = (parent[:, :, None] == near) | (parent[:, np.maximum(near, 0)] == np.arange(size)[:, None])
    joined &= (near != NONE) & inside[:, :, None] & inside[:, np.maximum(near, 0)]
    if order == "shuffled":
        turn = _ORDERS[rng.integers(0, len(_ORDERS), size=(n, size), dtype=np.uint8)]
        keys = rng.integers(0, 2**31, size=(n, size), dtype=np.int64) << 16
    else:
        turn = np.broadcast_to(_ORDERS[0], (n, size, 4))
        keys = np.zeros((n, size), dtype=np.int64)
    keys |= np.arange(size)
    keys[~inside] = 2**62
    keys.sort(axis=1)
    nodes = (keys[:, :longest] & 0xFFFF).astype(np.int32)
    nodes[~first(lengths, longest)] = NONE
    neighbours = np.take_along_axis(np.where(joined, near, NONE), turn, axis=2)
    one = rng.integers(0, lengths)
    other = rng.integers(0, lengths - 1)
    other += other >= one
    row = np.arange(n)
    return Mazes(nodes, neighbours, nodes[row, one], nodes[row, other])


def classify_path(prompt: str, answer: str, *, right: str, otherwise: str) -> str | None:
    """What is wrong with an answer, None if it is the right one.

    Args:
        prompt: text of the maze.
        answer: what was written for it, without EOS.
        right: the right answer.
        otherwise: what to call a walk from start to goal that is not the right one.
    """
    if answer == right:
        return None
    near, start, goal = parse_maze(prompt)
    if not re.fullmatch(r"(\[[1-9][0-9]*\])+", answer):
        return "malformed"
    walk = [int(k) for k in re.findall(r"\d+", answer)]
    if walk[0] != start:
        return "wrong start"
    if any(there not in near.get(here, ()) for here, there in pairwise(walk)):
        return "no edge"
    return "wrong goal" if walk[-1] != goal else otherwise


def _classify_shortest(prompt: str, answer: str) -> str | None:
    """Sort a wrong answer to `shortest_path` into its kind."""
    return classify_path(prompt, answer, right=_answer(shortest_path, prompt), otherwise="not shortest")


def _classify_trace(prompt: str, answer: str) -> str | None:
    """Sort a wrong answer to `dfs_trace` into its kind."""
    return classify_path(prompt, answer, right=_answer(dfs_trace, prompt), otherwise="not depth first")


def _answer(rule: Callable[[Mazes], Sample], prompt: str) -> str:
    """The right answer, by the rule itself."""
    listed, _, _ = parse_maze(prompt)
    return rule(maze(prompt, side=ceil(max(listed) ** 0.5))).text()[0][1]


MAZES = Family(
    name="mazes",
    length_unit="nodes",
    draw=draw_mazes,
    options={
        "side": Option(8, "nodes along each side of the square grid", whole_number(2, LARGEST_SIDE)),
        "order": Option(
            "shuffled", "order of the nodes and of each one's neighbours", one_of("shuffled", "sorted")
        ),
    },
    min_length=lambda options: 2,
    max_length=lambda options: int(options["side"]) ** 2,
    nodes=lambda options: int(options["side"]) ** 2,
)


@register_task(MAZES, classify=_classify_shortest)
def shortest_path(mazes: Mazes) -> Sample:
    """The nodes on the only path from start to goal.

    >>> shortest_path(maze("[2]:[1][3];[1]:[9][2];[9]:[1];[3]:[2];?[1]>[3]=")).text()[0][1]
    '[1][2][3]'
    """
    n, longest = mazes.nodes.shape
    towards = mazes.towards_start()
    path = np.full((n, longest), NONE, dtype=np.int32)
    path[:, 0] = mazes.goal
    row = np.arange(n)
    for step in range(1, longest):
        path[row, step] = towards[row, path[row, step - 1]]
        row = row[path[row, step] != mazes.start[row]]
        if not len(row):
            break
    return Sample(mazes.prompt(), _text(path[:, ::-1]))


@register_task(MAZES, classify=_classify_trace)
def dfs_trace(mazes: Mazes) -> Sample:
    """Depth-first search from start to goal: every arrival at a node, neighbours in listed order.

    >>> dfs_trace(maze("[2]:[1][3];[1]:[9][2];[9]:[1];[3]:[2];?[1]>[3]=")).text()[0][1]
    '[1][9][1][2][3]'
    """
    n, longest = mazes.nodes.shape
    towards = mazes.towards_start()
    # the ways out of each node in the order they are taken: its children, last the way back
    child = (mazes.neighbours != NONE) & (mazes.neighbours != towards[:, :, None])
    ways = pack((mazes.neighbours + 1).reshape(-1, 4), child.reshape(-1, 4)) - 1
    children, back = child.sum(axis=2).ravel(), np.flatnonzero(towards.ravel() != NONE)
    ways[back, children[back]] = towards.ravel()[back]
    taken = np.zeros(towards.size, dtype=np.int64)
    trace = np.full((n, 2 * longest - 2), NONE, dtype=np.int32)
    trace[:, 0] = at = mazes.start
    row = np.arange(n)
    for step in range(1, trace.shape[1]):
        place = row * towards.shape[1] + at
        at = ways[place, taken[place]]
        taken[place] += 1
        trace[row, step] = at
        on = at != mazes.goal[row]
        row, at = row[on], at[on]
        if not len(row):
            break
    return Sample(mazes.prompt(), _text(trace))


def _text(nodes: Nodes) -> NDArray[np.int16]:
    """Symbol codes of rows of nodes, NONE left out."""
    return pack(np.where(nodes == NONE, PAD, _codes(nodes)), nodes != NONE)
