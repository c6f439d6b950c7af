import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from data_builders import Component, get_task
from data_builders.sampling import draw_test_set, stream
from hf_lgt import EvalRecord, evaluate, load_config
from hf_lgt.data.batching import Batch
from hf_lgt.data.codec import Codec, TextCodec
from hf_lgt.data.eval_sets import Examples
from hf_lgt.evaluation.generation import sort_mistakes
from hf_lgt.evaluation.records import read_records
from hf_lgt.report.figures import mistakes_figure, save_figure
from hf_lgt.report.tables import mistake_kinds, mistake_table

SIDE = {"side": 4}
LENGTH, N, SEED = 9, 24, 5
PATH = Component("shortest_path", "target", (2, 6), options=SIDE)
TRACE = Component("dfs_trace", "auxiliary", (2, 12), options=SIDE)


class Speaker(torch.nn.Module):
    """Says what it was given after each prompt, token by token, and `<pad>` after all else."""

    def __init__(self, codec, task, said):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.codec, self.next = codec, {}
        for prompt, answer in said.items():
            before = codec.head(task) + codec.tokenize([prompt])[0]
            for token in [*codec.tokenize([answer])[0], codec.eos_id]:
                self.next[tuple(before)] = token
                before = [*before, token]

    def forward(self, input_ids, use_cache, logits_to_keep):
        logits = torch.zeros(*input_ids.shape, self.codec.vocab_size)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                logits[row, place, self.next.get(tuple(ids[: place + 1]), 0)] = 1.0
        return type("Output", (), {"logits": logits[:, logits_to_keep]})

    def generate(self, prompts, max_new_tokens, eos_token_id, **settings):
        rows = []
        for ids in prompts.tolist():
            for _ in range(max_new_tokens):
                ids.append(self.next.get(tuple(ids), 0))
                if ids[-1] == eos_token_id:
                    break
            rows.append(ids)
        longest = max(map(len, rows))
        return torch.tensor([ids + [0] * (longest - len(ids)) for ids in rows])


@pytest.fixture(scope="module")
def codec():
    return Codec.build(tasks=["shortest_path", "dfs_trace"], nodes=16)


@pytest.fixture(scope="module")
def pairs():
    return draw_test_set(PATH, LENGTH, N, SEED).examples.text()


def spoilt(pairs):
    """Answers of which some are wrong, and the kinds of those."""
    said, kinds = dict(pairs), Counter()
    long = [(prompt, answer) for prompt, answer in pairs if answer.count("[") >= 3]
    cut = [answer[: answer.rindex("[")] for _, answer in long]
    walk = get_task("dfs_trace")
    detours = [prompt for prompt, answer in long if walk.classify(prompt, answer) is not None]
    for prompt in detours[:2]:  # there and back again
        first, second = said[prompt].split("]")[:2]
        said[prompt] = f"{first}]{second}]{said[prompt]}"
        kinds["not shortest"] += 1
    rest = [
        (prompt, short) for (prompt, _), short in zip(long, cut, strict=True) if prompt not in detours[:2]
    ]
    said[rest[0][0]] = rest[0][1]
    kinds["wrong goal"] += 1
    said[rest[1][0]] = said[rest[1][0]][said[rest[1][0]].index("]") + 1 :]
    kinds["wrong start"] += 1
    said[rest[2][0]] += "=="
    kinds["malformed"] += 1
    return said, kinds, rest


def scored(codec, said, **settings):
    model = Speaker(codec, "shortest_path", said)
    return evaluate(model, codec, [PATH], [LENGTH], examples=N, seed=SEED, **settings)[0]


def test_wrong_answers_are_sorted_by_what_the_model_really_writes(codec, pairs):
    said, kinds, _ = spoilt(pairs)
    record = scored(codec, said, mistakes=N)
    assert record.mistakes == dict(kinds)
    assert record.exact_match == pytest.approx(1 - sum(kinds.values()) / N)


def test_an_answer_without_end_is_one_kind(codec, pairs):
    said = dict(pairs)
    model = Speaker(codec, "shortest_path", said)
    lost = codec.head("shortest_path") + codec.tokenize([pairs[0][0]])[0]
    model.next[tuple(lost)] = model.next[tuple(lost)] + 1  # after which it knows nothing more to say
    record = evaluate(model, codec, [PATH], [LENGTH], examples=N, seed=SEED, mistakes=N)[0]
    assert record.mistakes == {"no end": 1}


def test_no_more_are_looked_at_than_asked_for_and_none_unless_asked(codec, pairs):
    said, kinds, _ = spoilt(pairs)
    assert sum(scored(codec, said, mistakes=2).mistakes.values()) == 2 < sum(kinds.values())
    assert scored(codec, said).mistakes is None
    assert scored(codec, dict(pairs), mistakes=N).mistakes == {}


def test_a_task_without_kinds_reports_none(codec):
    reverse = Component("reverse", "target", (1, 4))
    texts = dict(draw_test_set(reverse, 3, 8, 0).examples.text())
    said = {prompt: answer[::-1] for prompt, answer in texts.items()}
    record = evaluate(Speaker(codec, "reverse", said), codec, [reverse], [3], examples=8, seed=0, mistakes=8)[
        0
    ]
    assert record.exact_match < 1
    assert record.mistakes is None


def test_lengths_that_no_maze_has_are_left_out(codec):
    prompts = {}
    for length in (15, 16):
        prompts |= dict(draw_test_set(PATH, length, 4, SEED).examples.text())
    found = evaluate(
        Speaker(codec, "shortest_path", prompts), codec, [PATH], [1, 15, 16, 17], examples=4, seed=SEED
    )
    assert [(r.length, r.exact_match) for r in found] == [(15, 1.0), (16, 1.0)]


@pytest.fixture
def records(root):
    """Records with known mistakes of a config with a maze mixture."""
    config = load_config(
        root / "recipes/demo/transfer.yaml",
        [
            "mixture=[{task: dfs_trace, role: target, lengths: [2, 6], options: {side: 4}}, "
            "{task: shortest_path, role: auxiliary, lengths: [2, 12], options: {side: 4}}]",
            "eval.lengths=[2,16]",
        ],
    )
    made = []
    for task, kinds in (("dfs_trace", {"no edge": 3, "not depth first": 1}), ("shortest_path", None)):
        for length in (4, 9, 14):
            role = "target" if task == "dfs_trace" else "auxiliary"
            found = kinds if length > 6 else ({} if kinds else None)
            cell = (10, task, role, length, 8, 0.5 if found else 1.0, 0.3, 1.0, 0.9, 0, found)
            made.append(EvalRecord(*cell))
    return config, made


def test_the_table_gives_shares_of_each_kind_by_regime(records):
    config, made = records
    assert mistake_kinds(made) == ["no edge", "not depth first"]
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in mistake_table(config, made).split("\n")
    ]
    assert rows[0] == ["wrong answers of", "regime", "looked at", "no edge", "not depth first"]
    assert rows[2:] == [
        ["dfs_trace", "transfer", "4", "0.750", "0.250"],
        ["dfs_trace", "beyond", "4", "0.750", "0.250"],
    ]


def test_the_figure_stacks_shares_that_add_up_to_the_wrong_answers(records, tmp_path):
    config, made = records
    figure = mistakes_figure(config, made)
    (axes,) = figure.axes
    heights = [sum(bar.get_height() for bar in bars) for bars in zip(*axes.containers, strict=True)]
    assert heights == pytest.approx([0, 0.5, 0.5])
    assert save_figure(figure, tmp_path / "mistakes.png").stat().st_size > 10_000


def test_mistakes_come_back_from_their_line(records, tmp_path):
    _, made = records
    (tmp_path / "eval.jsonl").write_text("".join(r.to_json() + "\n" for r in made))
    assert read_records(tmp_path / "eval.jsonl") == made


@pytest.mark.parametrize("bad", ['{"no edge": -1}', '{"no edge": 0.5}', "[1]", '"x"'])
def test_counts_that_are_none_are_refused(records, tmp_path, bad):
    line = dataclasses.replace(records[1][0], mistakes=None).to_json()
    (tmp_path / "eval.jsonl").write_text(line.replace('"mistakes": null', f'"mistakes": {bad}') + "\n")
    with pytest.raises(RuntimeError, match="line 1"):
        read_records(tmp_path / "eval.jsonl")


def test_a_user_s_prompts_under_a_task_s_name_are_not_classified():
    with pytest.raises(ValueError, match="not the prompt of a maze"):
        get_task("shortest_path").classify("From A to B?", "A")
    rng = stream(0, "check")
    prompt, answer = get_task("shortest_path").sample(rng, 4, 1, side=3).text()[0]
    assert get_task("shortest_path").classify(prompt, answer) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "[1]:[2];[2]:[9];?[1]>[9]=",  # a neighbour that is not listed
        "[1]:[2];[2]:[1];?[1]>[9]=",  # a goal that is not there
        "[1]:[2];[2]:[1];?[1]>[1]=",
        "[1]:[2];[2]:[1];[3]:[4];[4]:[3];?[1]>[2]=",  # two parts
        "[1]:[2][3];[2]:[1][3];[3]:[1][2];?[1]>[2]=",  # a cycle
        "[1]:[2][2];[2]:[1][1];?[1]>[2]=",
        "[1]:[2];[2]:[3];[3]:[1];?[1]>[2]=",  # one-way
        "[999999999]:[2];[2]:[999999999];?[2]>[999999999]=",
    ],
)
@pytest.mark.parametrize("task", ["shortest_path", "dfs_trace"])
def test_what_is_no_maze_of_ours_is_refused_by_name(task, prompt):
    with pytest.raises(ValueError, match="is not"):
        get_task(task).classify(prompt, "[1][2]")


@pytest.mark.parametrize("prompt", ["From A to B?", "[1]:[2];[2]:[9];?[1]>[9]="])
def test_rows_of_a_user_under_a_task_s_name_are_counted_as_not_sorted(prompt):
    assert sorted_by_name(prompt, right="[1][2]", said="[2][1]") == {"not sorted": 1}


def sorted_by_name(prompt, right, said):
    """Kinds of one wrong answer to a row of a dataset whose task is called shortest_path."""
    codec = TextCodec.of_words([prompt, right, said], tasks=["shortest_path"])
    head = codec.head("shortest_path") + codec.tokenize([prompt])[0]
    ids = [*head, *codec.tokenize([right])[0], codec.eos_id]
    counts = [False] * len(head) + [True] * (len(ids) - len(head))
    batch = Batch(np.array([ids]), np.array([len(ids)]), np.array([counts]))
    model = Speaker(codec, "shortest_path", {prompt: said})
    classify = get_task("shortest_path").classify
    return sort_mistakes(model, codec, Examples(batch, 0), np.array([0]), classify)
