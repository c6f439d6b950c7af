"""Maze tasks against networkx and a slow plain Wilson, read from the prompt text alone."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from data_builders import Component, Mixture, TaskError, build_corpus, get_task, list_tasks
from data_builders.symbols import PAD
from data_builders.tasks.maze import dfs_trace, maze, shortest_path
from tests.support.maze_oracle import (
    brackets,
    check,
    chi_square,
    edge_chances,
    grid,
    numbers,
    read,
    spoilt,
    two_sample,
    wilson,
)

GOLDEN = "[2]:[1][3];[1]:[9][2];[9]:[1];[3]:[2];?[1]>[3]="
PLUS = "[5]:[2][8][4][6];[8]:[5];[2]:[5];[6]:[5];[4]:[5];"
COMB = "[4]:[1][7];[1]:[2][4];[2]:[3][1];[3]:[2];[7]:[4];"
SMALLEST_P = 1e-3

both_tasks = pytest.mark.parametrize("task", ["shortest_path", "dfs_trace"])
both_orders = pytest.mark.parametrize("order", ["shuffled", "sorted"])


def sample(task, seed, length, n=40, **options):
    return get_task(task).sample(np.random.default_rng(seed), length, n, **options)


def mazes(task, seed, length, n, **options):
    return [read(prompt) for prompt, _ in sample(task, seed, length, n, **options).text()]


# Worked examples


@pytest.mark.parametrize(
    ("prompt", "side", "path", "trace"),
    [
        (GOLDEN, 8, "[1][2][3]", "[1][9][1][2][3]"),
        (PLUS + "?[5]>[6]=", 3, "[5][6]", "[5][2][5][8][5][4][5][6]"),
        (PLUS + "?[5]>[2]=", 3, "[5][2]", "[5][2]"),
        (PLUS + "?[8]>[4]=", 3, "[8][5][4]", "[8][5][2][5][4]"),
        (COMB + "?[4]>[7]=", 3, "[4][7]", "[4][1][2][3][2][1][4][7]"),
        (COMB + "?[2]>[7]=", 3, "[2][1][4][7]", "[2][3][2][1][4][7]"),
        ("[4]:[2];[2]:[4];?[4]>[2]=", 2, "[4][2]", "[4][2]"),
    ],
)
def test_worked_examples(prompt, side, path, trace):
    assert shortest_path(maze(prompt, side=side)).text() == [(prompt, path)]
    assert dfs_trace(maze(prompt, side=side)).text() == [(prompt, trace)]


def test_the_two_tasks_and_their_defaults():
    assert shortest_path(maze(GOLDEN)).text() == [(GOLDEN, "[1][2][3]")]
    assert set(list_tasks("mazes")) == {"shortest_path", "dfs_trace"}
    for name in ("shortest_path", "dfs_trace"):
        task = get_task(name)
        assert (task.family, task.length_unit, task.min_length) == ("mazes", "nodes", 2)
        assert task.resolve({}) == {"side": 8, "order": "shuffled"}


# Every example is a tree with its answer


@both_tasks
@both_orders
@pytest.mark.parametrize(
    ("side", "lengths"),
    [(2, (2, 3, 4)), (3, (2, 5, 9)), (5, (2, 13, 25)), (8, (2, 10, 64)), (16, (3, 40, 256))],
)
def test_mazes_are_trees_on_the_grid_with_the_right_answer(task, order, side, lengths):
    for length in lengths:
        n = 5 if length > 100 else 40
        for prompt, target in sample(task, length, length, n, side=side, order=order).text():
            check(task, prompt, target, length, side, order)


@both_tasks
@both_orders
@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_a_row_has_exactly_its_own_length(task, order, side):
    rows = np.random.default_rng(side).integers(2, side * side + 1, 40)
    rows[:2] = 2, side * side
    drawn = sample(task, 1, rows, len(rows), side=side, order=order)
    for length, (prompt, target) in zip(rows.tolist(), drawn.text(), strict=True):
        check(task, prompt, target, length, side, order)


@both_tasks
def test_a_thousand_prompts_verify_from_their_text(task):
    rows = np.random.default_rng(5).integers(2, 65, 1000)
    drawn = sample(task, 6, rows, len(rows)).text()
    for length, (prompt, target) in zip(rows.tolist(), drawn, strict=True):
        check(task, prompt, target, length, 8)
    assert len({prompt for prompt, _ in drawn}) > 950


# Distributions


def test_the_slow_wilson_is_uniform_itself():
    rng, near = random.Random(0), grid(3)
    assert chi_square(Counter(wilson(rng, near, 9) for _ in range(6000)), 192) > SMALLEST_P
    assert sum(edge_chances(3).values()) == pytest.approx(8)  # a tree of 9 nodes has 8 edges


@both_tasks
@both_orders
def test_everything_about_the_smallest_full_maze_is_uniform(task, order):
    drawn = mazes(task, 11, 4, 24_000, side=2, order=order)
    assert chi_square(Counter(made.edges for made in drawn), 4) > SMALLEST_P
    assert chi_square(Counter((made.edges, made.start, made.goal) for made in drawn), 48) > SMALLEST_P
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    assert chi_square(Counter((a.edges, b.edges) for a, b in pairs), 16) > SMALLEST_P  # rows independent
    if order == "shuffled":
        cells = Counter((made.edges, *made.listed, *map(tuple, made.listed.values())) for made in drawn)
        assert chi_square(cells, 4 * 24 * 4) > SMALLEST_P
        queries = Counter((tuple(made.listed), made.start, made.goal) for made in drawn)
        assert chi_square(queries, 24 * 12) > SMALLEST_P


@both_tasks
def test_full_mazes_are_uniform_spanning_trees(task):
    assert chi_square(Counter(made.edges for made in mazes(task, 12, 9, 12_000, side=3)), 192) > SMALLEST_P


@pytest.mark.parametrize("side", [5, 8])
def test_edges_of_larger_full_mazes_are_as_frequent_as_kirchhoff_says(side):
    n = 1500
    counts = Counter(e for made in mazes("shortest_path", 13, side**2, n, side=side) for e in made.edges)
    for edge, chance in edge_chances(side).items():
        assert abs(counts[edge] - n * chance) < 4.5 * np.sqrt(n * chance * (1 - chance)), edge


@pytest.mark.parametrize("mixed", [False, True])
def test_partial_mazes_are_those_of_the_slow_wilson(mixed):
    n, lengths, near, rng = 8000, (3, 4, 6), grid(3), random.Random(1)
    if mixed:
        rows = np.resize((*lengths, 9), 4 * n)
        drawn = mazes("dfs_trace", 14, rows, len(rows), side=3)
        assert chi_square(Counter(made.edges for made in drawn if len(made.listed) == 9), 192) > SMALLEST_P
    else:
        drawn = [made for length in lengths for made in mazes("dfs_trace", length, length, n, side=3)]
    for length in lengths:
        ours = Counter(made.edges for made in drawn if len(made.listed) == length)
        slow = Counter(wilson(rng, near, length) for _ in range(n))
        assert ours.total() == slow.total()
        assert two_sample(ours, slow) > SMALLEST_P, length


@both_tasks
@both_orders
def test_queries_are_uniform_over_the_pairs_of_nodes(task, order):
    drawn = mazes(task, 15, np.resize([5, 9], 8000), 8000, side=8, order=order)
    for length in (5, 9):
        for rank in (sorted, list):  # by number, and by place in the prompt
            places = [rank(made.listed) for made in drawn if len(made.listed) == length]
            asked = [(made.start, made.goal) for made in drawn if len(made.listed) == length]
            pairs = zip(places, asked, strict=True)
            counts = Counter((nodes.index(start), nodes.index(goal)) for nodes, (start, goal) in pairs)
            assert chi_square(counts, length * (length - 1)) > SMALLEST_P


@both_tasks
def test_nodes_and_neighbours_are_listed_in_uniform_order(task):
    nodes, neighbours = Counter(), {k: Counter() for k in (2, 3, 4)}
    for made in mazes(task, 16, np.resize([4, 9], 12_000), 12_000, side=3):
        if len(made.listed) == 4:
            nodes[tuple(np.argsort(list(made.listed)))] += 1
        for row in made.listed.values():
            if len(row) > 1:
                neighbours[len(row)][tuple(np.argsort(row))] += 1
    assert chi_square(nodes, 24) > SMALLEST_P
    for degree, cells in ((2, 2), (3, 6), (4, 24)):
        assert chi_square(neighbours[degree], cells) > SMALLEST_P


# Arrays


@both_tasks
@pytest.mark.parametrize("length", [2, 3, 9, np.array([2, 16, 7])])
def test_arrays_are_as_wide_as_the_longest_example_can_be(task, length):
    longest = int(np.max(length))
    bound = longest if task == "shortest_path" else 2 * longest - 2
    for seed in range(5):
        drawn = sample(task, seed, length, 3)
        assert drawn.prompt.shape == (3, 5 * longest + 3)
        assert drawn.target.shape == drawn.loss_mask.shape == (3, bound)
        assert drawn.prompt.dtype == drawn.target.dtype == np.int16
        assert np.array_equal(drawn.loss_mask, drawn.target != PAD)
        assert drawn.scores_eos
        rows = zip(np.broadcast_to(length, 3), drawn.prompt, drawn.target, drawn.text(), strict=True)
        for own, prompt, target, (_, answer) in rows:
            assert np.array_equal(prompt != PAD, np.arange(len(prompt)) < 5 * own + 3)
            assert np.array_equal(target != PAD, np.arange(bound) < len(numbers(answer)))


@both_tasks
@both_orders
def test_the_widest_target_occurs(task, order):
    drawn = sample(task, 0, 4, 500, side=2, order=order)
    assert (drawn.target != PAD).all(axis=1).any()


@both_tasks
def test_the_same_generator_gives_the_same_sample(task):
    rows = np.arange(2, 42)
    one, same, other = (sample(task, seed, rows) for seed in (3, 3, 4))
    assert np.array_equal(one.prompt, same.prompt)
    assert one.text() == same.text() != other.text()


# Wrong answers


@pytest.mark.parametrize(
    ("answer", "path", "trace"),
    [
        ("[1][2][3]", None, "not depth first"),
        ("[1][9][1][2][3]", "not shortest", None),
        ("[1][2][1][9][1][2][3]", "not shortest", "not depth first"),
        ("[1][2][3][2][3]", "not shortest", "not depth first"),
        *((a, "malformed", "malformed") for a in ("", "123", "[1][2][3]=", "[1][2]3", "[1][2][3", "a[1]")),
        *((a, "malformed", "malformed") for a in ("[1]>[3]", "[1]:[2];", "[9][8]x", "[1][-2]", "[01][2][3]")),
        *((a, "wrong start", "wrong start") for a in ("[2][3]", "[3]", "[3][2][1]", "[64]", "[9][3]")),
        *((a, "no edge", "no edge") for a in ("[1][3]", "[1][1][2][3]", "[1][10]", "[1][64][3]")),
        *((a, "no edge", "no edge") for a in ("[1][2][3][4]", "[1][2][3][3]", "[1][9][2][3]", "[1][99]")),
        *((a, "wrong goal", "wrong goal") for a in ("[1]", "[1][2]", "[1][9][1]", "[1][2][3][2]")),
    ],
)
def test_hand_made_answers(answer, path, trace):
    assert get_task("shortest_path").classify(GOLDEN, answer) == path
    assert get_task("dfs_trace").classify(GOLDEN, answer) == trace


@both_tasks
def test_spoilt_answers_are_reported_apart(task):
    found = Counter()
    for prompt, target in sample(task, 21, np.resize([2, 4, 7, 15], 120), 120, side=4).text():
        made = read(prompt)
        assert get_task(task).classify(prompt, target) is None
        answers = [brackets(nodes) for nodes in spoilt(made, numbers(target))]
        for answer in (*answers, target[:-1], target[1:], target + "=", "a" + target, target[::-1]):
            verdict = made.verdict(task, answer)
            assert get_task(task).classify(prompt, answer) == verdict, (prompt, answer)
            found[verdict] += 1
    last = "not shortest" if task == "shortest_path" else "not depth first"
    assert set(found) == {None, "malformed", "wrong start", "no edge", "wrong goal", last}
    assert min(found.values()) >= 40


# Wrong requests


@both_tasks
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize(("length", "side"), [(10, 3), (5, 2), (65, 8), (400, 16)])
def test_more_nodes_than_the_grid_has_are_refused(task, n, length, side):
    for asked in (length, np.resize([2, length], n)) if n > 1 else (length,):
        with pytest.raises(TaskError, match=rf"{task}.*\b{length}\b") as error:
            sample(task, 0, asked, n, side=side)
        assert re.search(rf"side.*\b({side}|{side * side})\b", str(error.value))
        assert not re.search(r"np\.|array|int64", str(error.value))


@both_tasks
@pytest.mark.parametrize(
    ("option", "value"),
    [("side", value) for value in (1, 0, -3, 2.5, 8.0, True, "8", None, [8], 179)]
    + [("order", value) for value in ("", "random", "Sorted", True, 0, None, ["sorted"])],
)
def test_values_outside_the_options_are_refused(task, option, value):
    with pytest.raises(TaskError, match=f"{task}.*'{option}'.*{re.escape(repr(value))}.*must be"):
        sample(task, 0, 2, **{option: value})


@both_tasks
@pytest.mark.parametrize("length", [1, 0, -1, np.array([4, 1])])
def test_a_maze_has_two_nodes_at_least(task, length):
    with pytest.raises(TaskError, match=rf"{task}.*length {np.min(length)} is below 2"):
        sample(task, 0, length, 2)


def test_a_thousand_rows_of_each_task_verify_from_the_text_columns_of_a_corpus(tmp_path):
    mixture = Mixture(
        [Component("dfs_trace", "target", (2, 32)), Component("shortest_path", "auxiliary", (2, 64))]
    )
    corpus = build_corpus(mixture, 2400, 4, range(2, 65, 8), seed=3, cache_dir=tmp_path)
    seen = Counter()
    for row in corpus["train"]:
        check(row["task"], row["prompt"], row["target"], row["length"], 8)
        seen[row["task"]] += 1
    assert min(seen.values()) >= 1000
    for row in corpus["test"]:
        check(row["task"], row["prompt"], row["target"], row["length"], 8)
