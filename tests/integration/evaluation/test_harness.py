import json

import numpy as np
import pytest
import torch

from data_builders import Component
from data_builders.sampling import HeldOut, draw_test_set
from hf_lgt import EvaluationOptions, evaluate
from hf_lgt.data.batching import Batch
from hf_lgt.data.codec import Codec
from hf_lgt.models.forward import inference

ALPHABET = {"alphabet": "abcd"}


class Oracle(torch.nn.Module):
    """Knows every next token of some sequences, except where it should be wrong."""

    def __init__(self, batch, vocab_size, wrong):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vocab_size = vocab_size
        self.next = {}
        self.passes = 0
        for row, (ids, length) in enumerate(zip(batch.ids.tolist(), batch.lengths, strict=True)):
            for place in range(1, length):
                token = ids[place] if (row, place) not in wrong else 3
                self.next[tuple(ids[:place])] = token

    def forward(self, input_ids, use_cache, logits_to_keep):
        assert use_cache is False
        self.passes += 1
        logits = torch.zeros(*input_ids.shape, self.vocab_size)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                token = self.next.get(tuple(ids[: place + 1]))
                if token is not None:
                    logits[row, place, token] = 1.0
        return type("Output", (), {"logits": logits[:, logits_to_keep]})


def encode_test_set(codec, component, test):
    """A whole test set as one batch, with the usual position IDs."""
    return Batch.of(codec.encode(test.examples, component.task))


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_counts_are_those_of_a_model_with_known_mistakes(codec, batch_tokens):
    component = Component("reverse_add", "target", (1, 4))
    batch = encode_test_set(codec, component, draw_test_set(component, 3, 40, seed=9))
    answer = batch.scored.argmax(axis=1)
    # two wrong tokens in row 0, one in row 5, and a mistake in row 7's prompt, which does not count
    wrong = {(0, answer[0]), (0, answer[0] + 2), (5, batch.lengths[5] - 1), (7, 3)}
    model = Oracle(batch, codec.vocab_size, wrong)
    (record,) = evaluate(
        model,
        codec,
        [component],
        [3],
        examples=40,
        seed=9,
        options=EvaluationOptions(step=7, batch_tokens=batch_tokens),
    )
    named = (record.step, record.task, record.role, record.length, record.n)
    assert named == (7, "reverse_add", "target", 3, 40)
    assert record.exact_match == 38 / 40
    assert record.token_accuracy == pytest.approx(1 - 3 / batch.answer_tokens)
    assert record.ci_low < record.exact_match < record.ci_high
    assert record.overlap is None
    # row 5 is right up to its end, where it goes on
    assert (record.stopped_early, record.ran_on) == (0, 1)


def in_processes(world, work, folder):
    """What `work()` gives in each of some processes that see each other."""

    def one(rank):
        init = f"file://{folder}/meet-{world}"
        torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=world)
        (folder / f"{world}-{rank}.json").write_text(json.dumps(work()))
        torch.distributed.destroy_process_group()

    # forked: they have the test's own objects, and need not import torch again
    torch.multiprocessing.start_processes(one, nprocs=world, start_method="fork")
    return [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
@pytest.mark.parametrize("n", [7, 3])
def test_uneven_shards_count_each_example_once_in_as_many_passes_everywhere(codec, tmp_path, n, batch_tokens):
    component = Component("reverse_add", "target", (1, 4))
    batch = encode_test_set(codec, component, draw_test_set(component, 3, n, seed=9))
    answer = batch.scored.argmax(axis=1)
    # the last row is the one that fills up the shares
    model = Oracle(batch, codec.vocab_size, {(0, answer[0]), (n - 1, answer[n - 1])})

    def work():
        model.passes = 0
        (record,) = evaluate(
            model,
            codec,
            [component],
            [3],
            examples=n,
            seed=9,
            options=EvaluationOptions(step=1, batch_tokens=batch_tokens),
        )
        return [record.to_json(), model.passes]

    (record, passes) = work()
    found = json.loads(record)
    assert (found["n"], found["exact_match"]) == (n, (n - 2) / n)
    assert found["token_accuracy"] == pytest.approx(1 - 2 / batch.answer_tokens)
    assert passes <= n
    for world in (2, 4):
        made = in_processes(world, work, tmp_path)
        assert [one for one, _ in made] == [record] * world
        assert len({passes for _, passes in made}) == 1


def test_given_query_characters_and_eos_do_not_count_for_mqar(codec):
    component = Component("mqar", "target", (3, 8))
    batch = encode_test_set(codec, component, draw_test_set(component, 8, 10, seed=9))
    unscored = {(r, p) for r in range(10) for p in range(batch.lengths[r]) if not batch.scored[r, p]}
    model = Oracle(batch, codec.vocab_size, unscored)
    (record,) = evaluate(model, codec, [component], [8], examples=10, seed=9)
    assert record.exact_match == record.token_accuracy == 1
    assert record.stopped_early is record.ran_on is None
    hit = {(2, int(batch.scored[2].argmax()))}
    model = Oracle(batch, codec.vocab_size, hit)
    (record,) = evaluate(model, codec, [component], [8], examples=10, seed=9)
    assert record.exact_match == 0.9


def test_lengths_below_a_tasks_smallest_are_left_out_and_small_spaces_say_their_n(codec):
    components = [
        Component("mqar", "auxiliary", (3, 4)),
        Component("capitalize", "target", (1, 2), options=ALPHABET),
    ]
    empty = Oracle(
        encode_test_set(codec, components[1], draw_test_set(components[1], 1, 1, 0)), codec.vocab_size, set()
    )
    records = evaluate(empty, codec, components, [1, 2, 3], examples=50, seed=0)
    assert [(r.task, r.length) for r in records] == [("mqar", 3), *(("capitalize", n) for n in (1, 2, 3))]
    assert [r.n for r in records] == [50, 8, 50, 50]


def test_overlap_counts_the_test_prompts_that_training_may_draw(codec):
    from data_builders import Mixture

    trained = Component("capitalize", "target", (1, 3), options=ALPHABET)
    other = Component("reverse", "auxiliary", (1, 3), options=ALPHABET)
    held_out = HeldOut(Mixture([trained]), range(1, 5), examples=30, seed=0)
    model = Oracle(encode_test_set(codec, trained, draw_test_set(trained, 1, 1, 0)), codec.vocab_size, set())

    def overlaps(component, examples):
        found = evaluate(
            model,
            codec,
            [component],
            [1, 3, 4],
            examples=examples,
            seed=0,
            options=EvaluationOptions(held_out=held_out),
        )
        return [r.overlap for r in found]

    assert overlaps(trained, 30) == [4, 0, 0]
    # more examples than were held out: the others may have been trained on, where training went
    assert overlaps(trained, 50) == [4, 20, 0]
    assert overlaps(other, 30) == [0, 0, 0]
    # the trained task with other options: its prompts may have been drawn, nobody counted them
    fewer = Component("capitalize", "target", (1, 3), options={"alphabet": "abc"})
    assert overlaps(fewer, 30) == [None, None, None]


def test_inference_restores_the_mode_and_records_no_gradients():
    model = torch.nn.Linear(2, 2).train()
    with inference(model):
        assert not model.training
        assert not model(torch.ones(1, 2)).requires_grad
    assert model.training


def test_a_real_model_scores_as_row_by_row_arg_max_says(tiny_run):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_run / "model")
    codec = Codec.load(tiny_run / "model")
    component = Component("capitalize", "auxiliary", (1, 16), options=ALPHABET)
    (record,) = evaluate(model, codec, [component], [2], examples=64, seed=1)
    batch = encode_test_set(codec, component, draw_test_set(component, 2, 64, seed=1))
    exact, right = 0, 0
    for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
        with torch.no_grad():
            best = model(torch.from_numpy(ids[:length])[None]).logits[0].argmax(-1).numpy()
        places = np.flatnonzero(scored)
        hits = best[places - 1] == ids[places]
        exact, right = exact + hits.all(), right + hits.sum()
    assert record.exact_match == exact / 64
    assert record.token_accuracy == pytest.approx(right / batch.answer_tokens)
