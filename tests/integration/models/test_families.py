"""Every family of transformers can be trained from scratch: the same contract for all."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_lgt import ConfigError, load_config, train
from tests.conftest import ROOT

FAMILIES = {
    "qwen3": ("{head_dim: 16}", True),
    "gemma3_text": ("{head_dim: 16, sliding_window: 64}", False),
    "phi3": ("{}", True),
    "gpt2": ("{}", True),
    "mamba2": ("{state_size: 8, num_heads: 8, head_dim: 8, n_groups: 1}", False),
    "recurrent_gemma": ("{lru_width: 32, attention_window_size: 64, head_dim: 8}", False),
    "falcon_h1": ("{mamba_d_ssm: 32, mamba_n_heads: 4, mamba_d_head: 8, mamba_d_state: 8,"
                  " mamba_n_groups: 1}", False),
    "rwkv": ("{}", False),
    "looped_llama": ("{loops_per_token: 0.25}", False),
}  # fmt: skip
"""keys of its own config, and whether its batches are packed"""
QUICK = ["train.steps=6", "train.save_every=3", "train.eval_every=null", "train.log_every=1",
         "train.batch_size=16", "eval.lengths=[4,8]", "eval.every=4", "eval.examples=8"]  # fmt: skip
SIZES = ["model.hidden_size=32", "model.intermediate_size=64", "model.layers=3", "model.heads=4"]


def config_of(tiny, kind, *more):
    own = [f"model.architecture={kind}", f"model.config={FAMILIES[kind][0]}", f"name={kind}"]
    return tiny(*SIZES, *own, *QUICK, *more)


def losses(run_dir):
    return [json.loads(line)["loss"] for line in (run_dir / "train.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_trains_resumes_and_is_loaded_again(tiny, kind, tmp_path):
    config = config_of(tiny, kind)
    run = train(config, progress=False)
    whole = losses(run.run_dir)
    assert whole[-1] < whole[0]
    model = AutoModelForCausalLM.from_pretrained(run.run_dir / "model")
    assert model.config.model_type == kind
    kept = model.state_dict()
    # resumed from its first checkpoint, it takes the same steps
    shutil.rmtree(run.run_dir / "model")
    shutil.rmtree(max((run.run_dir / "checkpoints").iterdir()))
    train(config, progress=False)
    assert losses(run.run_dir) == whole
    again = AutoModelForCausalLM.from_pretrained(run.run_dir / "model").state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in kept.items())
    # its random twin is another checkpoint of the same architecture
    overrides = ["model.init=random", f"model.name_or_path={run.run_dir / 'model'}", "name=twin"]
    overrides += [*QUICK, f"output_dir={tmp_path}"]
    twin = load_config(ROOT / "recipes/demo/checkpoint.yaml", [*overrides, "train.steps=2"])
    assert train(twin, progress=False).records


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "looped_llama"])
def test_layout_causality_and_padding_of_a_family(tiny, kind):
    from hf_lgt.data.codec import Codec
    from hf_lgt.models.build import build_model
    from hf_lgt.models.packing import choose_layout

    config, codec = config_of(tiny, kind), Codec.build()
    model = build_model(config.model, codec, 0)
    assert choose_layout(config.train, model, torch.device("cpu")) is FAMILIES[kind][1]
    other = build_model(config.model, codec, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    ids = torch.tensor([[1, 5, 6, 7, 8, 9]])
    padded = torch.cat([ids, torch.full((1, 5), codec.pad_id)], dim=1)
    with torch.no_grad():
        one, two = (model.eval()(input_ids=i, use_cache=False).logits[0, :6] for i in (ids, padded))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # what comes after is not seen


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["model.architecture=qwen33"],
            "model.architecture: transformers has no 'qwen33'; did you mean 'qwen3'",
        ),
        (["model.architecture=bert_base"], "transformers has no 'bert_base'"),
        (["model.architecture=qwen3", "model.config={_attn_implementation: a/b}"], "no key '_attn_impl"),
        (["model.architecture=qwen3", "model.config={to_dict: 3}"], "qwen3 has no key 'to_dict'"),
        (["model.architecture=qwen3", "model.config={model_type: gpt2}"], "no key 'model_type'"),
        (
            ["model.architecture=qwen3", "model.config={state_size: 3}"],
            "model.config: qwen3 has no key 'state_size'",
        ),
        (
            ["model.architecture=mamba2", "model.config={num_heads: 7}"],
            "'mamba2' cannot be made of these sizes: ",
        ),
        (
            ["model.architecture=looped_llama", "model.config={most_loops: 0}"],
            "'looped_llama' cannot be made of these sizes: ",
        ),
    ],
)
def test_a_family_that_cannot_be_made_is_told_before_anything_is_written(tiny, tmp_path, overrides, told):
    with pytest.raises(ConfigError) as error:
        train(tiny(*SIZES, *overrides), progress=False)
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_looped_checkpoint_is_named_in_the_card_and_takes_no_filler(tiny, tmp_path):
    config = config_of(tiny, "looped_llama", "train.steps=2")
    model = train(config, progress=False).run_dir / "model"
    assert "import hf_lgt.models.looped" in (model / "README.md").read_text()
    overrides = ["model.init=pretrained", f"model.name_or_path={model}", "name=next", *QUICK, "train.steps=2"]
    again = [*overrides, f"output_dir={tmp_path}"]
    following = load_config(ROOT / "recipes/demo/checkpoint.yaml", again)
    done = train(following, progress=False).run_dir
    assert "import hf_lgt.models.looped" in (done / "model/README.md").read_text()
    filled = load_config(ROOT / "recipes/demo/checkpoint.yaml", [*again, "name=filled", "data.filler=4"])
    with pytest.raises(ConfigError, match=r"data\.filler: 4 would count as a part of the prompt"):
        train(filled, progress=False)
    assert not filled.run_dir.exists()


def test_keys_of_other_families_are_refused(tiny):
    for overrides, told in [
        (["model.config={state_size: 3}"], "model.config: is for other families than 'llama'"),
        (["model.architecture=qwen3", "model.positions=nope"], "'qwen3' has positions of its own"),
    ]:
        with pytest.raises(ConfigError) as error:
            tiny(*overrides)
        assert told in str(error.value)
