"""Maze tasks: paths through partial uniform spanning trees of a square grid (paper, section 3.1).

Nodes are ``[1]`` to ``[side * side]``, row by row. Many mazes are drawn at once; within this module a
node is 0 to S-1 with S = side * side.

Dimensions: n mazes, S nodes of the grid, L the largest number of nodes in a maze.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, permutations
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first, join, pack
from data_builders.registry import Family, Option, one_of, register_task, whole_number
from data_builders.symbols import FIRST_NODE, LAST_NODE, PAD, char
from data_builders.tasks.spanning_trees import NONE, Nodes, beside, members, spanning_trees

LARGEST_SIDE = int(LAST_NODE**0.5)


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
        ValueError: the text is no maze's prompt, or its graph is no tree with start and goal in it.
    """
    found = _PROMPT.fullmatch(prompt)
    if not found:
        raise ValueError(f"{prompt!r} is not the prompt of a maze")
    entries = [[int(k) for k in re.findall(r"\d+", part)] for part in found[1].split(";")[:-1]]
    near, start, goal = {node: nodes for node, *nodes in entries}, int(found[2]), int(found[3])
    edges = {(a, b) for a, nodes in near.items() for b in nodes}
    reached, ends = {start}, [start]
    while ends:
        ends = [b for a in ends for b in near.get(a, ()) if b not in reached]
        reached.update(ends)
    fine = (
        len(near) == len(entries)
        and {(b, a) for a, b in edges} == edges
        and len(edges) == sum(map(len, near.values())) == 2 * len(near) - 2
        and reached == set(near)
        and goal in near
        and start != goal
        and max(map(len, near.values())) <= 4
        and max(near) <= LAST_NODE
    )
    if not fine:
        raise ValueError(f"{prompt!r} is not a tree of nodes with up to 4 neighbours, start and goal in it")
    return near, start, goal


BLOCK = 2**18
"""nodes of grids that are drawn at once: bounds memory"""
_ORDERS = np.array([*permutations(range(4))], dtype=np.intp)


def draw_mazes(rng: np.random.Generator, lengths: Counts, *, side: int, order: str) -> Mazes:
    """Draw mazes with exactly `lengths` nodes, and two different nodes of each."""
    most = max(1, BLOCK // side**2)
    parts = [
        _draw_block(rng, lengths[i : i + most], int(lengths.max(initial=2)), side=side, order=order)
        for i in range(0, max(len(lengths), 1), most)
    ]
    fields = ("nodes", "neighbours", "start", "goal")
    return Mazes(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def _draw_block(rng: np.random.Generator, lengths: Counts, longest: int, *, side: int, order: str) -> Mazes:
    """As `draw_mazes`, all at once; `longest` is that of all blocks."""
    n, size = len(lengths), side * side
    parent, root = spanning_trees(rng, n, side)
    inside = members(rng, parent, root, lengths)
    # A node's neighbours in the tree lie where its parent is, or where a node is whose parent it is.
    near = beside(side)
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
        "side": Option(
            8,
            "nodes along each side of the square grid; the time goes with their square",
            whole_number(2, LARGEST_SIDE),
        ),
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
