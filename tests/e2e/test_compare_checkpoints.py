"""A whole comparison of checkpoints: real runs from a repository on disk, laid out as one of the Hub."""

import json

from hf_lgt.models.local_hub import write_revision
from hf_lgt.utils import yaml
from tests.support import checkpoints


def write_repository(path):
    """Two revisions with different weights, one of which tells its validation loss."""
    for step in (10, 200):

        def fill(folder, step=step):
            checkpoints.write(folder, seed=step)
            if step == 200:
                about = {"step": 200, "tokens": 1, "validation_loss": 2.5, "bits_per_byte": 1.0}
                (folder / "pretraining.json").write_text(json.dumps(about))

        write_revision(path, f"step-{step}", fill)


def test_compare_trains_from_every_checkpoint_and_the_twin(call_recipe, tmp_path):
    repository = tmp_path / "some-model"
    write_repository(repository)
    config = checkpoints.settings(
        repository, tmp_path / "runs", "model.revision=step-10", "eval.lengths=[1,6]"
    )
    (tmp_path / "arm.yaml").write_text(yaml.dump(config))
    listed = {"name_or_path": str(repository), "revisions": ["step-200", "step-10"]}
    comparison = {"name": "c", "arms": ["arm.yaml"], "seeds": [3], "checkpoints": listed}
    (tmp_path / "compare.yaml").write_text(yaml.dump(comparison))

    done = call_recipe("compare.py", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:2] == "| "
    ]
    assert [row[:2] for row in rows[1:]] == [["random", "–"], ["step-10", "–"], ["step-200", "2.500"]]
    # before the first step only what was pretrained is evaluated
    assert [row[2] == "–" for row in rows[1:]] == [True, False, False]
    runs = json.loads((tmp_path / "runs/c/comparison.json").read_text())["runs"]
    assert [run["pretraining_step"] for run in runs] == [None, 10, 200]
    commit = (repository / "refs" / "step-200").read_text()
    assert [run["commit"] == commit for run in runs] == [True, False, True]  # the twin has its tokenizer
    assert (tmp_path / "runs/c/comparison.png").is_file()
    assert "3 runs, 3 finished" in call_recipe("compare.py", tmp_path).stdout

    listed["revisions"] = ["step-200", "step-20"]
    (tmp_path / "compare.yaml").write_text(yaml.dump(comparison))
    wrong = call_recipe("compare.py", tmp_path)
    assert wrong.returncode == 2
    assert "model.revision: " in wrong.stderr
    assert "unknown revision 'step-20'" in wrong.stderr
    assert "step-10, step-200" in wrong.stderr
