"""Heads: where they are, ablation one by one and all at once, attention matrices."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hf_lgt.analysis.ablation import AblationMap, ablation_map, head_means, score, score_without
from hf_lgt.analysis.attention import attention_difference, attention_means
from hf_lgt.analysis.necessity import matched_sets, most_needed, necessity
from hf_lgt.analysis.patching import patch_map
from hf_lgt.config.schema import PeftConfig
from hf_lgt.data.batching import Batch, make_pass
from hf_lgt.models import heads as heads_module
from hf_lgt.models.adapters import add_adapters
from hf_lgt.models.forward import logits_of
from hf_lgt.models.heads import FAMILIES, changed, find_heads, register_family
from hf_lgt.utils.errors import ConfigError

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 24}
OTHER_NAMES = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4},
    "bloom": {"n_layer": 3, "n_head": 4},
    "gpt_neo": {"num_layers": 3, "num_heads": 4, "attention_types": [[["global"], 3]]},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},
}
NONE = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def model_of(kind, **more):
    """A random model whose heads matter much."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 64, **NONE}
        config = AutoConfig.for_model(kind, **{**sizes, **OTHER_NAMES.get(kind, {}), **more})
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for projection in find_heads(model).projections:
                projection.weight *= 20
    return model


def batch_of(model, n=12, prompt=6, answer=4, seed=0):
    """Examples of several lengths whose answers are what the model itself says."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(prompt - 2, prompt + 1, size=n)
    ids = np.zeros((n, prompt + answer), dtype=np.int64)
    scored = np.zeros(ids.shape, dtype=bool)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.integers(1, 24, size=length)
        for at in range(length, length + answer):
            with torch.no_grad():
                ids[row, at] = (
                    model(input_ids=torch.from_numpy(ids[row : row + 1, :at])).logits[0, -1].argmax()
                )
            scored[row, at] = True
    return Batch(ids, lengths + answer, scored)


@pytest.fixture(scope="module")
def llama():
    model = model_of("llama")
    return model, batch_of(model)


def slow_map(model, batch):
    """Exact match and token accuracy without each head, one at a time, all examples at once."""
    heads = find_heads(model)
    work = make_pass(batch, np.arange(len(batch.lengths)))
    size = heads.projections[0].weight.shape[0] // heads.count
    wanted = work.labels.numpy()
    kept = {}

    def score_with(hook, layer):
        handle = heads.projections[layer].register_forward_pre_hook(hook)
        with torch.no_grad():
            said = logits_of(model, work).argmax(dim=-1).numpy()
        handle.remove()
        right = (said == wanted) | (wanted == -100)
        return right.all(axis=1).mean(), right[wanted != -100].mean()

    found = np.empty((heads.layers, heads.count, 2))
    for layer in range(heads.layers):
        score_with(lambda _, given: kept.update(wrote=given[0]), layer)
        for head in range(heads.count):
            own = slice(head * size, (head + 1) * size)

            def without(_, given, own=own):
                wrote = given[0].clone()
                for at in range(wrote.shape[1]):
                    rows = [row for row, length in enumerate(batch.lengths) if at < length - 1]
                    wrote[:, at, own] = kept["wrote"][rows, at, own].double().mean(dim=0).float()
                return (wrote,)

            found[layer, head] = score_with(without, layer)
    return found


def test_the_map_is_that_of_a_loop_that_ablates_one_head_at_a_time(llama):
    model, batch = llama
    slow = slow_map(model, batch)
    assert len(np.unique(slow)) > 6  # else there is nothing to agree on
    for batch_tokens in (65_536, 40, 10):
        found = ablation_map(model, batch, batch_tokens=batch_tokens)
        assert (found.exact_match, found.token_accuracy) == (1.0, 1.0)
        np.testing.assert_array_equal(found.exact_without, slow[..., 0])
        np.testing.assert_array_equal(found.tokens_without, slow[..., 1])
        np.testing.assert_array_equal(found.exact_lost, 1 - slow[..., 0])


def test_several_heads_at_once(llama):
    model, batch = llama
    found = ablation_map(model, batch)
    for layer, head in find_heads(model).every:
        one = score_without(model, batch, [(layer, head)])
        assert one == (found.exact_without[layer, head], found.tokens_without[layer, head])
    assert score_without(model, batch, []) == (1.0, 1.0)
    every = score_without(model, batch, find_heads(model).every, batch_tokens=25)
    assert every[0] < found.exact_without.min()


def test_the_model_is_untouched_afterwards(llama):
    model, batch = llama
    work = make_pass(batch, np.arange(4))
    with torch.no_grad():
        before = logits_of(model, work)
    implementation = model.config._attn_implementation
    model.train()
    ablation_map(model, batch)
    attention_means(model, batch)
    assert model.training
    model.eval()
    with torch.no_grad():
        assert torch.equal(logits_of(model, work), before)
    assert model.config._attn_implementation == implementation
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error_too(llama):
    model, batch = llama
    with pytest.raises(ZeroDivisionError), changed(find_heads(model), lambda layer, wrote: 1 / 0):
        logits_of(model, make_pass(batch, np.arange(2)))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_means_leave_padding_out(llama):
    model, batch = llama
    means = head_means(model, batch)
    padded = Batch(np.where(batch.ids == 0, 7, batch.ids), batch.lengths, batch.scored)
    torch.testing.assert_close(head_means(model, padded, batch_tokens=30), means)
    assert means.shape == (3, int(batch.lengths.max()) - 1, 4, 8)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_known_family_has_its_heads_where_they_are_looked_for(kind):
    grouped = {"num_key_value_heads": 2, "head_dim": 8}
    model = model_of(kind, **({} if kind in {*OTHER_NAMES, "gpt_neox"} else grouped))
    heads = find_heads(model)
    assert (heads.layers, heads.count) == (3, 4)
    seen = {}
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with changed(heads, lambda layer, wrote: seen.update({layer: wrote.shape})):
            assert torch.equal(model(input_ids=ids).logits, before)
        with changed(heads, lambda layer, wrote: wrote * 0, [2]):
            assert not torch.equal(model(input_ids=ids).logits, before)
    assert seen == dict.fromkeys(range(3), (1, 8, 4, 8))


def test_an_unknown_family_says_how_to_add_it(monkeypatch, llama):
    model, _ = llama
    monkeypatch.setattr(heads_module, "FAMILIES", {"gpt2": FAMILIES["gpt2"]})
    with pytest.raises(ConfigError) as caught:
        find_heads(model)
    (fault,) = caught.value.faults
    assert "'llama' models are not known; known: gpt2" in fault
    assert 'register_family("llama", layers=..., projection=...)' in fault
    register_family("llama", "model.layers", "self_attn.o_proj")
    assert find_heads(model).layers == 3
    register_family("llama", "model.layers", "attention.dense")
    with pytest.raises(ConfigError, match=r"not built as expected .*attention"):
        find_heads(model)


def test_heads_of_a_model_with_adapters():
    model = model_of("llama")
    batch = batch_of(model)
    plain = ablation_map(model, batch)
    config = PeftConfig(rank=2, alpha=4, dropout=0.0, target_modules=["o_proj", "q_proj"])
    adapted = add_adapters(model, config, [], 0, base="made-here")
    found = ablation_map(adapted, batch)  # fresh adapters change nothing
    np.testing.assert_array_equal(found.exact_without, plain.exact_without)


def test_attention_matrices(llama):
    model, batch = llama
    means = attention_means(model, batch)
    width = int(batch.lengths.max()) - 1
    assert means.shape == (3, 4, width, width)
    np.testing.assert_allclose(means.sum(axis=-1), 1, atol=1e-5)
    assert np.triu(means, 1).max() == 0
    np.testing.assert_allclose(attention_means(model, batch, batch_tokens=20), means, atol=1e-6)
    last = int(batch.lengths.argmax())
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(input_ids=torch.from_numpy(batch.ids[last : last + 1, :width]), output_attentions=True)
    model.set_attn_implementation("sdpa")
    alone = attention_means(model, batch.take(np.array([last])))
    np.testing.assert_allclose(alone, np.stack([a[0].numpy() for a in own.attentions]), atol=1e-6)


def test_the_difference_of_attention_matrices():
    first = np.zeros((1, 2, 3, 3), dtype=np.float32)
    second = np.zeros((1, 2, 2, 2), dtype=np.float32)
    first[0, 0] = [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]
    second[0, 0] = [[1, 0], [0, 1]]
    np.testing.assert_array_equal(attention_difference(first, second), [[1.0, 0.0]])
    np.testing.assert_array_equal(attention_difference(second, first), [[1.0, 0.0]])


def test_the_heads_that_are_needed_most():
    def lost(exact, tokens):
        return AblationMap(1.0, 1.0, 1 - np.array(exact), 1 - np.array(tokens))

    first = lost([[0.9, 0.0], [0.3, 0.3]], [[0.1, 0.0], [0.1, 0.2]])
    second = lost([[0.5, 0.0], [0.3, 0.3]], [[0.1, 0.0], [0.1, 0.2]])
    assert most_needed([first, second], 1) == ((0, 0),)
    assert most_needed([first, second], 2) == ((0, 0), (1, 1))  # by token accuracy, where exact match ties
    assert most_needed([first, second], 3) == ((0, 0), (1, 0), (1, 1))
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k is {k}; it must be at least 1 and less than the model's 4"):
            most_needed([first], k)


def test_matched_sets(llama):
    heads = find_heads(llama[0])
    chosen = ((0, 1), (2, 0), (2, 3))
    sets = matched_sets(heads, chosen, most=100)
    assert len(sets) == len(set(sets)) == 4 * 6 - 1
    assert chosen not in sets
    assert all([layer for layer, _ in own] == [0, 2, 2] and own == tuple(sorted(own)) for own in sets)
    drawn = matched_sets(heads, chosen, most=10)
    assert len(set(drawn)) == 10
    assert set(drawn) < set(sets)
    assert matched_sets(heads, chosen, most=10) == drawn != matched_sets(heads, chosen, most=10, seed=1)
    assert matched_sets(heads, tuple((0, head) for head in range(4)), most=10) == []


def test_what_is_lost_without_the_chosen_heads_is_compared_with_matched_ones(llama):
    model, batch = llama
    halves = [batch.take(np.arange(0, 6)), batch.take(np.arange(6, 12))]
    chosen = most_needed([ablation_map(model, half) for half in halves], 2)
    found = necessity(model, halves, chosen, batch_tokens=64)
    assert found.exact_match == 1.0

    def lost(own):
        return 1 - np.mean([score_without(model, half, own)[0] for half in halves])

    others = matched_sets(find_heads(model), chosen, 64)
    assert found.lost == lost(chosen)
    assert found.lost_matched == tuple(map(lost, others))
    assert found.effect == pytest.approx(found.lost - np.mean(found.lost_matched))
    ahead = sum(own >= found.lost for own in found.lost_matched)
    assert found.p == (1 + ahead) / (1 + len(others))
    with pytest.raises(ValueError, match="no matched set"):
        necessity(model, halves, tuple((0, head) for head in range(4)))


def test_patching_moves_what_heads_write(llama):
    donor, batch = llama
    receiver = model_of("llama")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for projection in find_heads(receiver).projections:
            projection.weight.data += 0.2 * torch.randn_like(projection.weight)
    found = patch_map(receiver, donor, batch, batch_tokens=50)
    assert found.donor == (1.0, 1.0)
    assert found.receiver == score(receiver, batch)
    work = make_pass(batch, np.arange(len(batch.lengths)))
    wrote = []
    with torch.no_grad(), changed(find_heads(donor), lambda _, written: wrote.append(written)):
        logits_of(donor, work)

    def slow(moved):
        def move(layer, written):
            written = written.clone()
            for at, head in moved:
                if at == layer:
                    written[:, :, head] = wrote[layer][:, :, head]
            return written

        with torch.no_grad(), changed(find_heads(receiver), move):
            said = logits_of(receiver, work).argmax(dim=-1)
        right = ((said == work.labels) | (work.labels == -100)).numpy()
        return right.all(axis=1).mean(), right[work.labels.numpy() != -100].mean()

    heads = find_heads(receiver)
    for layer, head in heads.every:
        assert tuple(found.by_head[layer, head]) == slow([(layer, head)])
    for layer in range(heads.layers):
        assert tuple(found.by_layer[layer]) == slow([(layer, head) for head in range(heads.count)])
    assert found.together == slow(heads.every)
    assert len(np.unique(found.by_head[..., 1])) > 3
    between = 1 - found.receiver[1]
    np.testing.assert_allclose(
        found.restored(found.by_layer), (found.by_layer[:, 1] - found.receiver[1]) / between
    )
    assert np.isnan(patch_map(donor, donor, batch).restored(found.by_layer)).all()


def test_patching_between_models_of_different_sizes_is_refused(llama):
    donor, batch = llama
    with pytest.raises(ValueError, match="the receiver has 2 layers of 4 heads, the donor 3 of 4"):
        patch_map(model_of("llama", num_hidden_layers=2), donor, batch)


def test_the_score_is_that_of_the_evaluation(llama):
    model, batch = llama
    from hf_lgt.evaluation.harness import score_examples

    other = batch_of(model, seed=1)
    ids = np.where(batch.scored, other.ids, batch.ids)
    mixed = Batch(ids, batch.lengths, batch.scored)
    found = score_examples(model, mixed, 1, 65_536)
    expected = (found.exact.mean(), found.right.sum() / found.scored.sum())
    assert score(model, mixed, batch_tokens=24) == expected
