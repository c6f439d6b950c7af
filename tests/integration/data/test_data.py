"""What a run keeps of its dataset, and what others may see of it."""

import json

import pytest

from data_builders import Component, Mixture, build_corpus
from hf_lgt import ConfigError, load_config, train
from hf_lgt.data.build import example_texts, open_data, prepare_data
from hf_lgt.evaluation.records import read_records
from hf_lgt.evaluation.trained_model import find_model
from hf_lgt.report.model_card import eval_results, public_config
from hf_lgt.workflows.evaluate import reevaluate
from tests.conftest import ROOT, TINY

MIXTURE = "mixture=[{task: mqar, role: target, lengths: [3, 6]}]"


def write(folder, seed=0):
    mixture = Mixture([Component("mqar", "target", (3, 6))])
    corpus = build_corpus(mixture, 60, 8, range(3, 9), seed=seed, cache_dir=folder / "cache")
    (folder / "rows").mkdir(exist_ok=True)
    for name, rows in corpus.items():
        rows.to_parquet(folder / "rows" / f"{name}.parquet")
    return folder / "rows"


@pytest.fixture
def config(tmp_path):
    overrides = [f"output_dir={tmp_path / 'runs'}", "data.source=dataset", f"data.path={write(tmp_path)}"]
    overrides += [MIXTURE, "eval.lengths=[3,8]", "train.steps=2", "train.eval_every=null"]
    return load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, *overrides])


def test_the_example_of_a_task_is_cut_where_its_answer_begins(config):
    data = prepare_data(config, open_data(config))
    prompt, answer = example_texts(config, data.tests)["mqar"]
    assert prompt.endswith("=")
    assert prompt.count("=") == 1
    assert "=" not in answer
    # an answer begins with what is asked, which is not scored
    assert answer[:2] in prompt


def test_an_evaluation_after_the_rows_changed_does_not_know_the_overlap(config, tmp_path, news):
    run = train(config, progress=False).run_dir
    assert {r.overlap for r in read_records(run / "eval.jsonl")} == {0}
    found = find_model(run, None, [])
    reevaluate(found, str(tmp_path / "same"), False)
    assert {r.overlap for r in read_records(tmp_path / "same/eval.jsonl")} == {0}
    write(tmp_path, seed=1)
    reevaluate(found, str(tmp_path / "changed"), False)
    assert {r.overlap for r in read_records(tmp_path / "changed/eval.jsonl")} == {None}
    assert "whether training drew test prompts is not known: mqar" in "".join(news)


def test_what_is_pushed_names_no_folder_of_this_machine(config, tmp_path):
    run = train(config, progress=False).run_dir
    assert str(tmp_path) not in (run / "model/README.md").read_text()
    shown = public_config(config, {"path": config.data.path, "revision": None})
    assert shown["data"]["path"] == "rows"
    assert "output_dir" not in shown
    on_hub = public_config(config, {"path": config.data.path, "revision": "0" * 40})
    assert on_hub["data"]["path"] == config.data.path


def test_results_name_the_configuration_and_the_split_that_were_read(config):
    renamed = {**config.to_dict()}
    renamed["data"] = {**renamed["data"], "name": "all", "test_split": "validation"}
    from hf_lgt.config.load import config_from_dict

    records = read_records(train(config, progress=False).run_dir / "eval.jsonl")
    (first, *_) = eval_results(config_from_dict(renamed), records, {"revision": "0" * 40, "path": "a/b"})
    assert (first.dataset_config, first.dataset_split) == ("all, mqar", "validation")


@pytest.mark.parametrize("missing", ["pad_token", "eos_token"])
def test_a_model_whose_tokenizer_lacks_a_control_token_is_evaluated_or_refused(tiny_run, tmp_path, missing):
    import shutil

    folder = tmp_path / "foreign"
    shutil.copytree(tiny_run / "model", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings[missing]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tasks = str(ROOT / "recipes/demo/transfer.yaml")
    found = find_model(folder, tasks, ["eval.lengths=[2,3]", "eval.examples=4", f"output_dir={tmp_path}"])
    if missing == "pad_token":
        out = reevaluate(found, None, False)
        assert len(read_records(out / "eval.jsonl")) == 6
    else:
        with pytest.raises(ConfigError, match="has no end-of-sequence token"):
            reevaluate(found, None, False)
