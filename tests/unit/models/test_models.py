import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import kstest

from data_builders.tasks.arithmetic import numbers, reverse_add
from hf_lgt.config.schema import ModelConfig, PeftConfig
from hf_lgt.data.codec import Codec
from hf_lgt.models.adapters import add_adapters
from hf_lgt.models.base_checkpoint import context_length, open_base_checkpoint, readable
from hf_lgt.models.build import build_from_checkpoint, build_model, parameter_count
from hf_lgt.utils.errors import ConfigError
from tests.support import checkpoints

SIZES = {"layers": 2, "hidden_size": 32, "heads": 4, "intermediate_size": 48, "max_positions": 64}


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def test_sizes_are_those_of_the_config(codec):
    model = build_model(ModelConfig(**SIZES, kv_heads=2, rope_theta=500.0), codec, 0)
    assert model.config.num_hidden_layers == 2
    assert model.config.num_key_value_heads == 2
    assert model.config.rope_parameters["rope_theta"] == 500.0
    assert (model.config.bos_token_id, model.config.eos_token_id) == (codec.bos_id, codec.eos_id)
    vocab, d, ff = codec.vocab_size, 32, 48
    layer = 2 * d * d + 2 * d * (d // 2) + 3 * d * ff + 2 * d
    assert parameter_count(model) == 2 * vocab * d + 2 * layer + d


def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator(codec):
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = build_model(ModelConfig(**SIZES), codec, 4).state_dict()
    assert torch.equal(torch.rand(3), expected)
    torch.rand(17)
    again = build_model(ModelConfig(**SIZES), codec, 4).state_dict()
    other = build_model(ModelConfig(**SIZES), codec, 5).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_initializer_range_is_the_spread_of_the_weights(codec):
    weight = build_model(ModelConfig(**SIZES, initializer_range=0.2), codec, 0).model.embed_tokens.weight
    assert weight[1:].std().item() == pytest.approx(0.2, rel=0.1)


def test_nope_ignores_the_positions_and_rope_does_not(codec):
    ids = torch.tensor([[1, 20, 30, 21, 5]])
    for positions, changes in [("rope", True), ("nope", False)]:
        model = build_model(ModelConfig(**SIZES, positions=positions, initializer_range=0.2), codec, 0)
        mask = torch.ones_like(ids)
        with torch.no_grad():
            near = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            gapped = torch.tensor([[0, 3, 4, 9, 20]])
            far = model(input_ids=ids, attention_mask=mask, position_ids=gapped, use_cache=False).logits
        assert torch.allclose(near, far, atol=1e-6) != changes


BLOOM = {**SIZES, "architecture": "bloom", "positions": "alibi", "intermediate_size": 128}


def test_bloom_has_the_sizes_of_the_config(codec):
    model = build_model(ModelConfig(**BLOOM), codec, 0)
    assert (model.config.n_layer, model.config.n_head) == (2, 4)
    assert context_length(model.config) == 64
    assert (model.config.bos_token_id, model.config.eos_token_id) == (codec.bos_id, codec.eos_id)
    assert model.config.hidden_dropout == model.config.attention_dropout == 0
    vocab, d = codec.vocab_size, 32
    layer = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    assert parameter_count(model) == 2 * vocab * d + 2 * layer + 4 * d
    tied = build_model(ModelConfig(**BLOOM, tie_embeddings=True), codec, 0)
    assert parameter_count(model) - parameter_count(tied) == vocab * d


def test_alibi_depends_on_distances_alone(codec):
    """Attention of equal tokens falls with the distance by each head's slope, wherever they stand."""
    model = build_model(ModelConfig(**BLOOM, initializer_range=0.5), codec, 0)
    with torch.no_grad():
        seen = model(input_ids=torch.full((1, 12), 20), use_cache=False, output_attentions=True).attentions
    # equal tokens: the first layer's scores differ by the biases alone
    falls = seen[0][0, :, 1:, 1:].log().diff(dim=-1)
    slopes = torch.tensor([2.0 ** (-2 * (h + 1)) for h in range(4)])
    rows, columns = torch.tril_indices(11, 11, -1)
    expected = slopes[:, None].expand(4, len(rows))
    torch.testing.assert_close(falls[:, rows, columns], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("positions", ["rope", "nope", "alibi"])
def test_a_saved_model_loads_and_gives_the_same_logits(codec, tmp_path, positions):
    from transformers import AutoModelForCausalLM

    sizes = BLOOM if positions == "alibi" else {**SIZES, "positions": positions}
    model = build_model(ModelConfig(**sizes), codec, 0).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[1, 20, 30, 21, 5]])
    assert torch.equal(logits(model, ids), logits(again, ids))


def test_tied_embeddings_are_one_matrix(codec):
    model = build_model(ModelConfig(**SIZES, tie_embeddings=True), codec, 0)
    assert model.lm_head.weight is model.model.embed_tokens.weight


# ---- checkpoints


@pytest.fixture(scope="module", params=["smollm", "pythia", "gpt2"])
def start(request, tmp_path_factory):
    """A checkpoint on disk, opened."""
    folder = checkpoints.write(tmp_path_factory.mktemp("checkpoints") / request.param, request.param)
    return open_base_checkpoint(ModelConfig(init="pretrained", name_or_path=str(folder)))


def loaded(start, tasks=("reverse_add", "no_carry"), nodes=0, seed=3, **settings):
    settings = {"init": "pretrained", "name_or_path": start.checkpoint.name, **settings}
    codec = Codec.of_pretrained(start.tokenizer, tasks=tasks, nodes=nodes)
    return build_from_checkpoint(ModelConfig(**settings), start, codec, seed), codec


def raw_tensors(start):
    raw = load_file(start.checkpoint.folder / "model.safetensors")
    # the model has another name for it than the file
    return {"lm_head.weight" if k == "embed_out.weight" else k: v for k, v in raw.items()}


def matrices(model):
    """Input and, where it is another matrix, output rows."""
    both = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    return [m.detach() for m in (both[:1] if both[0] is both[1] else both)]


def raw_matrices(start):
    names = {
        "llama": ["model.embed_tokens.weight"],
        "gpt_neox": ["gpt_neox.embed_in.weight", "lm_head.weight"],
        "gpt2": ["transformer.wte.weight"],
    }
    return [raw_tensors(start)[name] for name in names[start.config.model_type]]


@pytest.mark.parametrize("nodes", [0, 20])
def test_rows_of_known_tokens_are_the_files_and_rows_are_only_added(start, nodes):
    model, codec = loaded(start, nodes=nodes)
    rows = raw_matrices(start)[0].shape[0]
    padded = start.config.model_type == "gpt_neox"
    assert (codec.inherited < rows) == padded
    assert len(matrices(model)) == (2 if padded else 1)
    for now, raw in zip(matrices(model), raw_matrices(start), strict=True):
        assert now.shape[0] == max(rows, codec.vocab_size) == model.config.vocab_size
        assert now[: codec.inherited].equal(raw[: codec.inherited])
        # padding that no token is of stays as well
        assert now[codec.vocab_size : rows].equal(raw[codec.vocab_size :])
        for new in codec.added:
            assert not any(now[new].equal(row) for row in raw)


def test_all_other_weights_are_the_files(start):
    model, _ = loaded(start, nodes=20)
    state, raw = model.state_dict(), raw_tensors(start)
    other = [name for name in raw if state[name].shape == raw[name].shape]
    assert len(raw) - len(other) == len(matrices(model))
    assert all(state[name].equal(raw[name]) for name in other)


def test_training_reads_the_pretrained_rows_of_the_characters_it_writes(start):
    """Looked up by the name of each token in the checkpoint's own vocabulary."""
    model, codec = loaded(start)
    own = start.tokenizer.backend_tokenizer.get_vocab()
    encoded = codec.encode(reverse_add(numbers(57, 68)), "reverse_add")
    raw = raw_matrices(start)[0]
    with torch.no_grad():
        read = model.get_input_embeddings()(torch.from_numpy(encoded.ids[0]))
    expected = ["<|endoftext|>", None, *"75+86=521", "<|endoftext|>"]
    for vector, text in zip(read, expected, strict=True):
        assert text is None or vector.equal(raw[own[text]])


def test_new_rows_are_normal_with_the_mean_and_deviation_of_each_coordinate(start):
    model, codec = loaded(start, nodes=400)
    new = list(codec.added)
    for now, raw in zip(matrices(model), raw_matrices(start), strict=True):
        known = raw[: codec.inherited].double()
        z = (now[new].double() - known.mean(0)) / known.std(0)
        count = len(new)
        assert z.mean(0).abs().max() < 5 / count**0.5
        assert (z.std(0) - 1).abs().max() < 5 / (2 * count) ** 0.5
        assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    if len(matrices(model)) == 2:
        a, b = ((m[new] - m[new].mean(0)).flatten() for m in matrices(model))
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.05


def test_new_rows_depend_on_the_seed_alone(start):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, codec = loaded(start)
    assert torch.rand(2).equal(expected)
    again, other = loaded(start)[0], loaded(start, seed=4)[0]
    for one, two, three in zip(matrices(first), matrices(again), matrices(other), strict=True):
        assert one.equal(two)
        assert not one.equal(three)
        assert one[: codec.inherited].equal(three[: codec.inherited])


def test_of_more_added_tokens_the_first_rows_are_the_same(start):
    """So arms of a comparison that differ in their mazes share what they share."""
    few, codec = loaded(start)
    many, _ = loaded(start, nodes=5)
    for a, b in zip(matrices(few), matrices(many), strict=True):
        assert a[list(codec.added)].equal(b[list(codec.added)])


def test_tied_stays_tied_and_untied_untied(start, tmp_path):
    model, _ = loaded(start, nodes=30)
    tied = start.config.model_type != "gpt_neox"
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.tie_word_embeddings == tied


def test_weights_of_another_type(start):
    model, codec = loaded(start, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    exact, _ = loaded(start)
    for low, high in zip(matrices(model), matrices(exact), strict=True):
        assert low[: codec.inherited].equal(high[: codec.inherited].bfloat16())
        assert low[list(codec.added)].float().allclose(high[list(codec.added)], atol=0.1)


def test_a_random_twin_has_the_same_shape_and_other_weights(start):
    model, codec = loaded(start, nodes=30)
    twin, _ = loaded(start, nodes=30, init="random")
    again, other = (
        loaded(start, nodes=30, init="random")[0],
        loaded(start, nodes=30, init="random", seed=4)[0],
    )
    skipped = ("_name_or_path", "dtype")
    assert {k: v for k, v in twin.config.to_dict().items() if k not in skipped} == {
        k: v for k, v in model.config.to_dict().items() if k not in skipped
    }
    assert type(twin) is type(model)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    weights = [k for k, v in model.state_dict().items() if v.ndim > 1 and v.is_floating_point()]
    assert not any(model.state_dict()[k].equal(twin.state_dict()[k]) for k in weights)
    assert all(twin.state_dict()[k].equal(again.state_dict()[k]) for k in weights)
    assert not any(twin.state_dict()[k].equal(other.state_dict()[k]) for k in weights)
    assert start.config.vocab_size < codec.vocab_size, "what was opened is left as it was"


def test_a_twin_of_another_type_is_the_same_but_for_rounding(start):
    twin, low = loaded(start, init="random")[0], loaded(start, init="random", dtype="bfloat16")[0]
    for a, b in zip(twin.parameters(), low.parameters(), strict=True):
        assert b.dtype == torch.bfloat16
        assert a.bfloat16().equal(b)


def test_a_twin_needs_no_weights(start, tmp_path):
    shutil.copytree(start.checkpoint.folder, tmp_path / "x")
    (tmp_path / "x/model.safetensors").unlink()
    opened = open_base_checkpoint(ModelConfig(init="random", name_or_path=str(tmp_path / "x")))
    twin, _ = loaded(opened, init="random")
    there, _ = loaded(start, init="random")
    assert all(a.equal(b) for a, b in zip(twin.parameters(), there.parameters(), strict=True))


# ---- models whose text part has a config of its own


@pytest.fixture(scope="module")
def composite(tmp_path_factory):
    """A folder with a model of pictures and text."""
    from transformers import AutoModelForCausalLM, Gemma3Config

    folder = tmp_path_factory.mktemp("composite")
    text = {"vocab_size": checkpoints.rows_of("smollm"), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "max_position_embeddings": 77, "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(Gemma3Config(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    checkpoints.write_tokenizer(folder, "smollm")
    return folder


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_model_of_pictures_and_text_is_trained_on_text(composite, init):
    start = open_base_checkpoint(ModelConfig(init=init, name_or_path=str(composite)))
    assert start.limit == 77
    assert start.config.get_text_config().pad_token_id is None, "texts begin and end with that token"
    model, codec = loaded(start, nodes=30, init=init)
    text = model.config.get_text_config()
    assert text.vocab_size == codec.vocab_size == len(model.get_input_embeddings().weight)
    encoded = codec.encode(reverse_add(numbers(57, 68)), "reverse_add")
    model.train()(input_ids=torch.from_numpy(encoded.ids), use_cache=False).logits.square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
    assert trained
    assert not any("vision" in name or "projector" in name for name in trained)


def test_more_than_the_context_of_the_text_part_is_refused(composite):
    with pytest.raises(ConfigError, match="max_positions: 78 is more than the 77 tokens"):
        open_base_checkpoint(ModelConfig(init="pretrained", name_or_path=str(composite), max_positions=78))


def test_adapters_are_those_of_the_text_part(composite):
    start = open_base_checkpoint(ModelConfig(init="pretrained", name_or_path=str(composite)))
    model, codec = loaded(start)
    lora = PeftConfig(method="lora", rank=2)
    adapted = add_adapters(model, lora, codec.added, 0, base="org/base")
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert any("q_proj" in name for name in names)
    assert not any("vision" in name or "projector" in name for name in names)
    with pytest.raises(ConfigError, match="unknown layer 'fc1'"):  # one of the vision part
        add_adapters(loaded(start)[0], PeftConfig(method="lora", target_modules=["fc1"]), (), 0, base="x")


def test_a_model_that_only_describes_pictures_is_refused(composite, tmp_path):
    from transformers import LlavaConfig

    shutil.copytree(composite, tmp_path / "x")
    text = open_base_checkpoint(
        ModelConfig(init="random", name_or_path=str(composite))
    ).config.get_text_config()
    LlavaConfig(text_config={"model_type": "llama", "vocab_size": text.vocab_size}).save_pretrained(
        tmp_path / "x"
    )
    for init in ("pretrained", "random"):
        start = open_base_checkpoint(ModelConfig(init=init, name_or_path=str(tmp_path / "x")))
        with pytest.raises(ConfigError, match=r"model\.name_or_path: .* cannot be loaded: .*LlavaConfig"):
            loaded(start, init=init)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("set trust_remote_code=True"), "model.trust_remote_code: m needs Python code"),
        (KeyError("trust_remote_code"), "m cannot be loaded: KeyError: "),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "trust_remote_code"), "cannot be loaded: UnicodeDecodeError"),
    ],
)
def test_a_model_needs_code_only_where_transformers_refuses_to_run_it(error, told):
    with pytest.raises(ConfigError) as caught, readable(Path("m")):
        raise error
    assert told in caught.value.faults[0]
