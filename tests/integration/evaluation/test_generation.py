import pytest

from data_builders import Component
from hf_lgt import load_config, train
from hf_lgt.data.codec import Codec
from hf_lgt.data.eval_sets import GeneratedTests
from hf_lgt.evaluation.generation import check_generation

OPTIONS = {"alphabet": "ab"}


def check(model, codec, component, length, *, examples, seed):
    tests = GeneratedTests(codec, [component], [length], examples=examples, seed=seed)
    return check_generation(model, tests, tests.cells[0])


@pytest.fixture(scope="module")
def learned(tmp_path_factory, root):
    """A model that has learned some lengths and not others: both outcomes occur."""
    from transformers import AutoModelForCausalLM

    overrides = [
        f"output_dir={tmp_path_factory.mktemp('learned')}",
        "mixture=[{task: string_copy, role: target, lengths: [1, 3], options: {alphabet: ab}}]",
        "train.steps=150",
        "train.batch_size=64",
        "train.eval_every=null",
        "train.save_every=null",
        "eval.lengths=[1,6]",
        "eval.examples=16",
    ]
    run = train(load_config(root / "recipes/demo/transfer.yaml", overrides), progress=False).run_dir
    return AutoModelForCausalLM.from_pretrained(run / "model"), Codec.load(run / "model")


def test_generation_and_teacher_forcing_agree(learned):
    shares = []
    for length in (2, 3, 5):
        component = Component("string_copy", "target", (1, 3), options=OPTIONS)
        found = check(*learned, component, length, examples=64, seed=2)
        assert found.teacher_forced == found.generated
        assert (found.disagreements, found.widest_margin) == (0, None)
        shares.append(found.generated)
    assert max(shares) > 0.5 > min(shares)


def test_ragged_prompts_are_generated_without_padding_effects(learned):
    model, codec = learned
    component = Component("reverse_add", "target", (1, 3))
    found = check(model, codec, component, 3, examples=40, seed=2)
    assert found.disagreements == 0


def test_a_disagreement_is_counted_and_its_margin_told(learned, monkeypatch):
    model, codec = learned
    real = type(model).generate

    def spoiled(self, prompts, **settings):
        out = real(self, prompts, **settings)
        out[:, -1] = codec.bos_id
        return out

    monkeypatch.setattr(type(model), "generate", spoiled)
    component = Component("string_copy", "target", (1, 3), options=OPTIONS)
    found = check(model, codec, component, 2, examples=16, seed=2)
    assert found.generated == 0 < found.teacher_forced
    assert found.disagreements == round(16 * found.teacher_forced)
    assert found.widest_margin > 0.1


def test_a_task_that_gives_parts_of_its_answer_is_refused(learned):
    with pytest.raises(ValueError, match="mqar gives parts of its target"):
        check(*learned, Component("mqar", "target", (3, 5)), 5, examples=4, seed=0)
