"""`recipes/report.py` on real runs, and every mistake that it tells."""

import json
import shutil

import pytest

from hf_lgt import train
from hf_lgt.experiments.manifest import Entry, Manifest, write_manifest
from tests.conftest import ROOT, TINY
from tests.support.report_runs import write_experiment, write_run


@pytest.fixture
def report(call_recipe):
    def call(*arguments):
        return call_recipe("report.py", *arguments)

    return call


def refused(report, *arguments):
    """The errors that are reported."""
    done = report(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    first, *faults = done.stderr.splitlines()
    assert first.startswith(f"error: {len(faults)} fault")
    return [fault.strip() for fault in faults]


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_run_that_was_trained(tiny_run, report, tmp_path):
    run_dir = tmp_path / "tiny" / "seed-0"
    shutil.copytree(tiny_run, run_dir)
    before = names(run_dir)
    done = report(run_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "single runs: 1 of 1 runs finished",
        f"report: {run_dir}/report/index.html",
    ]
    assert [n for n in names(run_dir) if not n.startswith("report")] == before
    text = (run_dir / "report/index.html").read_text(encoding="utf-8")
    assert 'id="run-tiny-seed-0"' in text
    assert "capitalize_reverse" in text
    assert "parameters" in text
    # what is there is replaced as a whole
    (run_dir / "report/figures/old.png").write_bytes(b"")
    assert report(run_dir).returncode == 0
    assert not (run_dir / "report/figures/old.png").exists()
    assert (run_dir / "report/index.html").read_text(encoding="utf-8") == text
    assert not [n for n in names(run_dir.parent) if "/." in n or n.startswith(".")]


def test_a_comparison_that_was_trained(tiny, report, tmp_path):
    entries = []
    for arm in ("transfer", "target_alone"):
        for seed in (0, 1):
            config = tiny(f"name=tiny-{arm}", f"seed.init={seed}", base=f"recipes/demo/{arm}.yaml")
            train(config, progress=False)
            entries.append(Entry(f"tiny-{arm}/seed-{seed}", "", arm, seed, f"../tiny-{arm}/seed-{seed}"))
    folder = tmp_path / "demo"
    write_manifest(Manifest("demo", tuple(entries)), folder)
    for given in (tmp_path, folder):
        done = report(given)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "demo: 4 of 4 runs finished",
            f"report: {given}/report/index.html",
        ]
        assert {p.name for p in (given / "report/figures").iterdir()} >= {
            "demo-curves.png",
            "demo-curves.svg",
        }


def test_another_place_for_the_report(report, tmp_path):
    write_run(tmp_path / "runs", "one", 0)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        done = report(tmp_path / "runs", "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / name / "index.html").read_text(encoding="utf-8")
        assert 'href="../runs/one/seed-0/config.yaml"' in text
    assert not (tmp_path / "runs/report").exists()


@pytest.mark.parametrize("what", ["notes.txt", "index.html", "figures/mine.csv", "config.yaml"])
def test_what_is_no_report_is_not_replaced(report, tmp_path, what):
    write_run(tmp_path / "runs", "one", 0)
    if what == "figures/mine.csv":
        assert report(tmp_path / "runs").returncode == 0
    own = tmp_path / "runs/report" / what
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("<html>mine</html>")
    before = names(tmp_path)
    (fault,) = refused(report, tmp_path / "runs")
    assert fault.startswith(f"--output: {tmp_path}/runs/report holds what is no report ({what})")
    assert names(tmp_path) == before
    assert own.read_text() == "<html>mine</html>"


def test_a_report_is_not_written_over_a_file_or_over_the_runs(report, tmp_path):
    write_run(tmp_path / "runs", "one", 0)
    (tmp_path / "file").write_text("mine")
    (fault,) = refused(report, tmp_path / "runs", "--output", tmp_path / "file")
    assert "is a file; name a folder" in fault
    (fault,) = refused(report, tmp_path / "runs", "--output", tmp_path / "runs")
    assert "holds what is no report (one)" in fault


def test_a_folder_that_is_none(report, tmp_path):
    (fault,) = refused(report, tmp_path / "nowhere")
    assert fault.startswith(f"{tmp_path}/nowhere does not exist; name a folder of runs")
    (tmp_path / "file").write_text("")
    (fault,) = refused(report, tmp_path / "file")
    assert fault.startswith(f"{tmp_path}/file is no folder; name a folder of runs")
    assert names(tmp_path) == ["file"]


def test_a_folder_without_a_run(report, tmp_path):
    (tmp_path / "x").mkdir()
    (fault,) = refused(report, tmp_path)
    assert fault.startswith(
        f"{tmp_path} holds no run; name the output_dir of runs, or a folder with a manifest"
    )
    assert names(tmp_path) == ["x"]
    other = tmp_path / "pretrained"
    (other / "model").mkdir(parents=True)
    (other / "config.yaml").write_text("name: x\n")
    (fault,) = refused(report, tmp_path)
    assert "holds no run (1 of another kind of training)" in fault


def test_an_experiment_that_was_moved_without_its_runs(report, tmp_path):
    folder = write_experiment(tmp_path / "runs")
    shutil.move(folder, tmp_path / "moved")
    (fault,) = refused(report, tmp_path / "moved")
    assert "no run of demo is there; its first should be" in fault
    assert "move them together" in fault


def test_damaged_files_are_all_named(report, tmp_path):
    folder = write_experiment(tmp_path, seeds=(0, 1, 2), unfinished=[("target_alone", 2)])
    write_run(tmp_path, "loose", 0)
    for name in ("broken", "list", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken/manifest.json").write_text("{")
    (tmp_path / "list/manifest.json").write_text("[]")
    whole = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "old/manifest.json").write_text(json.dumps({**whole, "runs": [{"id": "x"}]}))
    (tmp_path / "demo-transfer/seed-0/eval.jsonl").write_text("{}\n")
    (tmp_path / "demo-transfer/seed-1/config.yaml").write_text("name: 3\n")
    (tmp_path / "demo-target-alone/seed-1/eval.jsonl").unlink()
    with open(tmp_path / "demo-target-alone/seed-2/eval.jsonl", "a") as file:
        file.write("half a li")
    (tmp_path / "loose/seed-0/config.yaml").write_text("{")
    faults = refused(report, tmp_path)
    for place in (
        "broken/manifest.json is not JSON",
        "list/manifest.json holds no JSON object",
        "old/manifest.json is damaged",
        "demo-transfer/seed-0/eval.jsonl, line 1 is not an evaluation record",
        "demo-transfer/seed-1: name: 3 must be a string",
        "demo-target-alone/seed-1/eval.jsonl: No such file",
        "loose/seed-0 is no run",
    ):
        assert sum(place in fault for fault in faults) == 1, (place, faults)
    assert not (tmp_path / "report").exists()
    # what the finished runs had to tell comes first
    shutil.rmtree(tmp_path / "loose")
    for name in ("broken", "list", "old", "demo-transfer", "demo"):
        shutil.rmtree(tmp_path / name)
    shutil.rmtree(tmp_path / "demo-target-alone/seed-1")
    (fault,) = refused(report, tmp_path)
    assert "demo-target-alone/seed-2/eval.jsonl, line" in fault


def test_a_mistyped_option(report, tmp_path):
    done = report(tmp_path, "--ouput", "x")
    assert done.returncode == 2
    assert "--ouput" in done.stderr


MARKED = (
    "# Results\n\n<!-- verdict sweep.json -->\n<!-- end -->\n\n<!-- results sweep.json -->\n<!-- end -->\n"
)


@pytest.fixture
def swept(call_recipe, tmp_path):
    """Folder of a sweep that was trained, with a page beside its numbers."""
    (tmp_path / "sweep.yaml").write_text(
        f"name: s\nconfig: {ROOT / 'recipes/demo/transfer.yaml'}\narms: [transfer, target_alone]\n"
        "seeds: [0, 1]\nclaims: [{more: {arm: transfer}, than: {arm: target_alone}}]\n"
    )
    settings = [f"--{word}" for word in TINY if not word.startswith("name=")]
    done = call_recipe("sweep.py", tmp_path / "sweep.yaml", *settings, f"--output_dir={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "runs").glob("*/sweep.json")
    folder = file.parent
    (folder / "page.md").write_text(MARKED)
    return folder


def test_pages_are_written_from_the_numbers_of_a_sweep(swept, report):
    done = report("--pages", swept / "page.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"figure: {swept}/sweep_curves.png", f"page: {swept}/page.md"]
    assert (swept / "sweep_curves.png").read_bytes()[:4] == b"\x89PNG"
    text = (swept / "page.md").read_text(encoding="utf-8")
    # two seeds are a pilot
    assert "<!-- verdict sweep.json -->\n**Verdict: underpowered.**\n\n- transfer: arm transfer above" in text
    assert "![Exact match of the target by length](sweep_curves.png)" in text
    # what the sweep itself wrote, in the same words
    written = (swept / "sweep.md").read_text(encoding="utf-8")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 6
    assert set(tables) <= set(written.splitlines())
    assert report("--pages", swept / "page.md", swept / "page.md").returncode == 0
    assert (swept / "page.md").read_text(encoding="utf-8") == text


def test_a_page_that_cannot_be_written_is_reported(swept, report):
    (swept / "other.md").write_text(MARKED.replace("results sweep.json", "results nowhere.json"))
    (fault,) = refused(report, "--pages", swept / "other.md")
    assert fault == f"{swept}/nowhere.json: No such file or directory"
    data = json.loads((swept / "sweep.json").read_text())
    (swept / "sweep.json").write_text(json.dumps({**data, "format": 1}))
    (fault,) = refused(report, "--pages", swept / "page.md")
    assert fault.startswith(
        f"{swept}/sweep.json is no file of results of format 2; run the recipe that made it"
    )
    del data["cells"][0]["runs"][0]["curve"]
    (swept / "sweep.json").write_text(json.dumps(data))
    (fault,) = refused(report, "--pages", swept / "page.md")
    assert fault.startswith(f"{swept}/sweep.json is damaged (it lacks 'curve')")
    assert (swept / "page.md").read_text() == MARKED
    (fault,) = refused(report, "--pages", swept / "none.md")
    assert fault == f"{swept}/none.md: No such file or directory"


@pytest.mark.parametrize("arguments", [(), ("runs", "--pages", "page.md")])
def test_a_report_is_of_runs_or_of_pages(report, arguments):
    done = report(*arguments)
    assert done.returncode == 2
    assert "give RUNS_DIR or --pages, one of the two" in done.stderr
