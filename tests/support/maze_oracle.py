"""Mazes read back from prompt text alone, and slow plain answers: shares no code with the tasks."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import networkx as nx
import numpy as np
from scipy import stats

PROMPT = re.compile(r"((?:\[[1-9]\d*\]:(?:\[[1-9]\d*\])+;)+)\?\[([1-9]\d*)\]>\[([1-9]\d*)\]=")
ANSWER = re.compile(r"(?:\[[1-9]\d*\])+")


@dataclass(frozen=True)
class Maze:
    """One prompt: each node's neighbours in listed order (the dict's order is the nodes'), and the query."""

    listed: dict[int, list[int]]
    start: int
    goal: int

    @property
    def edges(self) -> frozenset[tuple[int, int]]:
        return frozenset((a, b) for a, row in self.listed.items() for b in row if a < b)

    @property
    def graph(self) -> nx.Graph:
        graph = nx.Graph()
        graph.add_nodes_from(self.listed)
        graph.add_edges_from((a, b) for a, row in self.listed.items() for b in row)
        return graph

    @property
    def path(self) -> list[int]:
        return nx.shortest_path(self.graph, self.start, self.goal)

    @property
    def trace(self) -> list[int]:
        seen, written = set(), []

        def walk(node: int) -> bool:
            seen.add(node)
            written.append(node)
            if node == self.goal:
                return True
            for other in self.listed[node]:
                if other not in seen:
                    if walk(other):
                        return True
                    written.append(node)
            return False

        assert walk(self.start)
        return written

    def answer(self, task: str) -> list[int]:
        return {"shortest_path": self.path, "dfs_trace": self.trace}[task]

    def verdict(self, task: str, answer: str) -> str | None:
        """What is wrong with an answer, None for nothing."""
        if not ANSWER.fullmatch(answer):
            return "malformed"
        nodes = numbers(answer)
        if nodes[0] != self.start:
            return "wrong start"
        if not all(self.graph.has_edge(a, b) for a, b in itertools.pairwise(nodes)):
            return "no edge"
        if nodes[-1] != self.goal:
            return "wrong goal"
        if nodes != self.answer(task):
            return {"shortest_path": "not shortest", "dfs_trace": "not depth first"}[task]
        return None


def numbers(text: str) -> list[int]:
    return [int(k) for k in re.findall(r"\[(\d+)\]", text)]


def brackets(nodes: list[int]) -> str:
    return "".join(f"[{k}]" for k in nodes)


def read(prompt: str) -> Maze:
    """The maze of a prompt that is written as it should be."""
    match = PROMPT.fullmatch(prompt)
    assert match, prompt
    rows = [row.split(":") for row in match[1].split(";")[:-1]]
    listed = {numbers(node)[0]: numbers(others) for node, others in rows}
    assert len(listed) == len(rows), f"a node is listed twice: {prompt}"
    return Maze(listed, int(match[2]), int(match[3]))


def grid(side: int) -> dict[int, list[int]]:
    """Neighbours of each node 1..side*side, numbered row by row."""
    near: dict[int, list[int]] = {k: [] for k in range(1, side * side + 1)}
    for k in near:
        if k % side:
            near[k].append(k + 1)
            near[k + 1].append(k)
        if k + side in near:
            near[k].append(k + side)
            near[k + side].append(k)
    return near


def check(task: str, prompt: str, target: str, length: int, side: int, order: str = "shuffled") -> None:
    """One example holds what the specification says, and nothing of it is taken from the code."""
    made, near = read(prompt), grid(side)
    assert len(made.listed) == length
    assert made.start in made.listed
    assert made.goal in made.listed
    assert made.start != made.goal
    for node, others in made.listed.items():
        assert 1 <= node <= side * side
        assert len(set(others)) == len(others)
        assert set(others) <= set(near[node])
        assert all(node in made.listed[other] for other in others)
        assert order == "shuffled" or others == sorted(others)
    assert order == "shuffled" or list(made.listed) == sorted(made.listed)
    assert nx.is_tree(made.graph)
    assert len(made.edges) == made.graph.number_of_edges() == length - 1
    assert target == brackets(made.answer(task))
    if task == "shortest_path":
        assert list(nx.all_simple_paths(made.graph, made.start, made.goal)) == [numbers(target)]


def spoilt(made: Maze, right: list[int]) -> Iterator[list[int]]:
    """Wrong and right answers near the right one."""
    path, trace, away = made.path, made.trace, made.listed[made.goal][0]
    strangers = [k for k in made.listed if k != right[-2] and k not in made.listed[right[-2]]]
    yield from (right, path, trace, right[:-1], right[1:], right[::-1], [right[0], *right])
    yield from ([*right, away], [*right, away, made.goal], path[:1] + path[1::-1] + path[1:], [*right, 999])
    yield from ([*right[:-1], k] for k in strangers[:2])
    yield from (right[:i] + right[i + 1 :] for i in range(1, min(4, len(right) - 1)))


def wilson(rng: Random, near: dict[int, list[int]], length: int) -> frozenset[tuple[int, int]]:
    """Edges (low, high) of one partial tree, by loop-erased walks that remember their whole way."""
    tree = {rng.choice(list(near))}
    edges = set()
    while len(tree) < length:
        way = [rng.choice([k for k in near if k not in tree])]
        while way[-1] not in tree:
            step = rng.choice(near[way[-1]])
            if step in way:
                del way[way.index(step) + 1 :]
            else:
                way.append(step)
        way.reverse()  # from the tree outwards
        for inner, outer in itertools.pairwise(way):
            if len(tree) < length:
                tree.add(outer)
                edges.add((min(inner, outer), max(inner, outer)))
    return frozenset(edges)


def edge_chances(side: int) -> dict[tuple[int, int], float]:
    """How often a uniform spanning tree has each edge of the grid: its effective resistance (Kirchhoff)."""
    near = grid(side)
    laplacian = np.zeros((len(near), len(near)))
    for k, row in near.items():
        laplacian[k - 1, k - 1] = len(row)
        laplacian[k - 1, [other - 1 for other in row]] = -1
    inverse = np.linalg.pinv(laplacian)

    def resistance(a: int, b: int) -> float:
        return float(inverse[a, a] + inverse[b, b] - 2 * inverse[a, b])

    return {(a, b): resistance(a - 1, b - 1) for a, row in near.items() for b in row if a < b}


def chi_square(counts: Counter, cells: int) -> float:
    """p-value of `counts` being uniform over this many cells, all of which are known to be possible."""
    assert len(counts) <= cells
    return stats.chisquare(list(counts.values()) + [0] * (cells - len(counts))).pvalue


def two_sample(one: Counter, other: Counter, rare: int = 20) -> float:
    """p-value of two samples being of one distribution; rare cells are counted together."""
    table, rest = [], [0, 0]
    for cell in one.keys() | other.keys():
        pair = [one[cell], other[cell]]
        if sum(pair) >= rare:
            table.append(pair)
        else:
            rest = [rest[0] + pair[0], rest[1] + pair[1]]
    return stats.chi2_contingency(np.array(table + [rest] * (sum(rest) >= rare)).T).pvalue
