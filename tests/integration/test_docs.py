"""The README is one page, the documentation builds without a dead link, and the tutorial's commands run."""

import json
import os
import re
import shlex
import sys

import pytest

from tests.conftest import ROOT
from tests.support import checkpoints, forked

RUN = ["--train.steps", "4", "--train.warmup", "0.5", "--train.average", "0", "--eval.examples", "4",
       "--eval.every", "4", "--eval.lengths", "[4,12]"]  # fmt: skip
FEW = {
    "finetune": RUN,
    "evaluate": ["--eval.examples", "4"],
    "compare": ["--seeds", "0", "--jobs", "2", *RUN],
    "sweep": ["--seeds", "0", *RUN],
    "probe": ["--train.steps", "10", "--train.until.cooldown", "2", "--train.eval_every", "2",
              "--train.batch_size", "2", "--eval.examples", "2", "--families", "copy"],
}  # fmt: skip
"""what makes a command of a page short"""


def blocks(page, kind):
    """The blocks of a page in some language, with the title of each."""
    return re.findall(rf"^```{kind}(?: title=\"([^\"\n]*)\")?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_readme_is_one_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (ROOT / link).exists(), link


def test_commands_of_the_pages_exist():
    """Each `hf-lgt WORD`, with a recipe that it names."""
    from hf_lgt.commands.main import COMMANDS
    from hf_lgt.config.shipped import COMPARISON, CONFIG, SWEEP, recipe_file

    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")]
    found = set()
    for page in pages:
        for _, block in blocks(page.read_text(encoding="utf-8"), "bash"):
            for line in re.findall(
                r"^(?:accelerate launch .*-m hf_lgt|hf-lgt) (.*)$", block.replace("\\\n", ""), re.MULTILINE
            ):
                words = shlex.split(line, comments=True)
                assert words[0] in {*COMMANDS, "COMMAND"}, f"{page}: {line}"
                found.add(words[0])
                kinds = {"compare": COMPARISON, "sweep": SWEEP}
                if words[0] in kinds and not words[1].endswith(".yaml"):
                    named = recipe_file(words[1].removeprefix("recipes/"), kinds[words[0]])
                    assert os.path.exists(named), f"{page}: {line}"  # noqa: PTH110
    assert {"finetune", "compare", "sweep", "probe", "report"} <= found
    assert recipe_file("demo", CONFIG).endswith("demo/transfer.yaml")


def test_the_documentation_builds_without_a_dead_link(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")
    done = forked.real(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path / 'site'}"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    keys = (tmp_path / "site/reference/config/index.html").read_text(encoding="utf-8")
    assert "train.until.exact_match" in keys
    assert "reverse_add" in (tmp_path / "site/reference/tasks/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "site/recipes/demo/index.html").is_file()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    """As one program in a fresh process, as a kernel would run its cells."""
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    last = code.pop().rpartition("\n")
    program = tmp_path / "program.py"
    program.write_text("\n\n".join([*code, f"{last[0]}\nprint('said', {last[2]})"]))
    done = forked.run([sys.executable, str(program)], timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "said <rotate>aBcD=" in done.stdout
    assert done.stdout.count("  10: ") == 2


def run_commands(page, folder):
    """Run the commands of a page there, shortened; the words of each."""
    checkpoint = checkpoints.write(folder / "checkpoint")
    ran = []
    for _, block in blocks(page.read_text(encoding="utf-8"), "bash"):
        for line in block.splitlines():
            words = shlex.split(line.replace("HuggingFaceTB/SmolLM2-135M", str(checkpoint)), comments=True)
            if words[:2] == ["pip", "install"]:
                continue
            if words[:2] == ["accelerate", "launch"]:
                launched = ROOT / words[2]
                assert launched.parent.name == "recipes"
                words = [launched.stem, *words[3:]]
                run, start = forked.real, ["-m", "accelerate.commands.launch", "--cpu", str(launched)]
            else:
                assert words.pop(0) == "hf-lgt", line
                run, start = forked.run, ["-m", "hf_lgt", words[0]]
            short = [] if "--dry_run" in words else FEW.get(words[0], [])
            given = [word for word in words if word.startswith("--")]
            kept = [w for flag, value in zip(short[::2], short[1::2], strict=True) if flag not in given
                    or flag == "--train.steps" for w in (flag, value)]  # fmt: skip
            done = run([sys.executable, *start, *words[1:], *kept], timeout=300, cwd=folder)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            ran.append(words)
    return ran


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    ran = [words[0] for words in run_commands(ROOT / "README.md", tmp_path)]
    assert ran == ["finetune", "compare", "finetune", "probe", "sweep", "report"]
    assert (tmp_path / "runs/demo-transfer/seed-0/model").is_dir()
    assert (tmp_path / "runs/report/index.html").is_file()
    [(_, program)] = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    short = program.replace("recipes/demo/transfer.yaml", str(ROOT / "recipes/demo/transfer.yaml")).replace(
        "train.steps=50", "train.steps=4"
    )
    done = forked.real([sys.executable, "-c", short], timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/try/seed-0/model").is_dir()


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(tmp_path):
    page = ROOT / "docs/tutorial.md"
    for title, text in blocks(page.read_text(encoding="utf-8"), "yaml"):
        (tmp_path / title).write_text(text)
    ran = [words[0] for words in run_commands(page, tmp_path)]
    assert ran.count("finetune") >= 3
    assert {"evaluate", "compare", "recipes", "sweep", "report", "probe"} <= set(ran)
    assert (tmp_path / "runs/report/index.html").is_file()
    assert (tmp_path / "runs/demo-checkpoint/seed-0/model").is_dir()
