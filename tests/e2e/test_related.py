"""analyze.py related and predict: candidates ranked by short trainings, and judged by a long sweep."""

import json
from statistics import fmean

import pytest

from hf_lgt import ConfigError, load_config
from hf_lgt.analysis.prediction import CHOSEN
from hf_lgt.analysis.ranking import Measured, Question, rank
from hf_lgt.analysis.relatedness import SCORES, Relatedness
from hf_lgt.analysis.report.related import read_related, write_related
from hf_lgt.commands.predict import find_pairs
from hf_lgt.commands.rank import plan_related, ranges
from hf_lgt.evaluation.records import read_records
from hf_lgt.evaluation.statistics import spearman
from hf_lgt.experiments import plan as experiment_plan
from hf_lgt.experiments.plan import record_plan
from hf_lgt.experiments.spec import load_sweep
from hf_lgt.utils.run_lock import RunLock
from tests.conftest import ROOT, TINY
from tests.unit.experiments.test_sweep_results import finish

DEMO = ROOT / "recipes/demo/transfer.yaml"
STRINGS = ROOT / "recipes/paper/strings_cpu.yaml"
MIXTURE = (
    "mixture=[{task: capitalize_reverse, role: target, lengths: [1, 2], options: {alphabet: abcd}}, "
    "{task: reverse, role: auxiliary, lengths: [1, 3], options: {alphabet: ab}, weight: 2.0}, "
    "{task: capitalize, role: auxiliary, lengths: [1, 4], options: {alphabet: abc}}]"
)
ALONE = "mixture=[{task: reverse, role: target, lengths: [1, 3]}]"
# steps and seeds are options of the recipe, and refused as keys
TINY_RUN = [word for word in TINY[1:] if not word.startswith("train.steps=")]
SHORT = [*TINY_RUN, "train.batch_size=8", "model.hidden_size=16", MIXTURE]


@pytest.fixture
def related(call_recipe, tmp_path):
    """Calls analyze.py related on a tiny config whose runs go below the test's own folder."""

    def call(target, candidates, *arguments):
        settings = [f"--{word}" for word in [*SHORT, f"output_dir={tmp_path / 'runs'}"]]
        given = ("--target", target, "--candidates", candidates, "--config", DEMO)
        little = ("--steps", 1, "--seeds", "0", "--examples", 2)  # where a mistake is overlooked
        return call_recipe("analyze.py", "related", *given, *little, *settings, *arguments)

    return call


# ---------------------------------------------------------------------------------- the plan


def plan(target, *candidates, overrides=(MIXTURE,), steps=7, seeds=(0, 1)):
    return plan_related(Question(target, candidates, steps, seeds, 16), DEMO, overrides)


def test_every_candidate_is_trained_beside_the_target_with_every_seed(tmp_path):
    overrides = (MIXTURE, f"output_dir={tmp_path}", "train.eval_every=2", "train.save_every=3")
    spec, runs = plan("capitalize_reverse", "reverse", "string_copy", overrides=overrides)
    assert spec.name == "related-capitalize_reverse"
    assert [(run.group, run.seed) for run in runs] == [
        (name, seed) for name in ("reverse", "string_copy") for seed in (0, 1)
    ]
    assert len({run.run_dir for run in runs}) == 4
    assert {run.folder for run in runs} == {tmp_path / "related-capitalize_reverse"}
    for run in runs:
        target, other = run.config.mixture
        assert (target.task, target.role, target.lengths) == ("capitalize_reverse", "target", (1, 2))
        assert (other.task, other.role) == (run.group, "auxiliary")
        assert target.weight == other.weight == 1.0
        train = run.config.train
        assert (train.steps, train.eval_every, train.save_every) == (7, None, None)
        assert (run.config.eval.examples, run.config.eval.every) == (16, 1)
        assert run.config.eval.lengths == (1, other.lengths[1])
    own, stand_in = (runs[i].config.mixture[1] for i in (0, 2))
    assert (own.lengths, own.options) == ((1, 3), {"alphabet": "ab"})
    # as the auxiliary that is trained on the longest examples
    assert (stand_in.lengths, stand_in.options) == ((1, 4), {"alphabet": "abc"})


def test_a_target_that_the_config_has_not_takes_the_place_of_its_own():
    _, runs = plan("string_copy", "capitalize_reverse", seeds=(0,))
    target, other = runs[0].config.mixture
    assert (target.lengths, target.options) == ((1, 2), {"alphabet": "abcd"})
    # the config trains it as a target alone, so not as long; with its own options
    assert (other.lengths, other.options) == ((1, 4), {"alphabet": "abcd"})


def test_lengths_that_both_are_trained_on_and_those_beyond():
    _, runs = plan("capitalize_reverse", "reverse", "capitalize", seeds=(0,))
    assert [ranges(run.config) for run in runs] == [((1, 2), (3,)), ((1, 2), (3, 4))]
    longer = MIXTURE.replace("[1, 2]", "[1, 5]").replace("[1, 4]", "[2, 8]")
    _, runs = plan("capitalize_reverse", "capitalize", "mqar", overrides=(longer,), seeds=(0,))
    # mqar has no strings of fewer than three letters
    assert [ranges(run.config) for run in runs] == [((2, 3, 4, 5), (6, 7, 8)), ((3, 4, 5), (6, 7, 8))]


def test_lengths_that_the_target_cannot_have_are_left_out():
    mazes = (
        "mixture=[{task: shortest_path, role: target, lengths: [2, 3], options: {side: 2}}, "
        "{task: dfs_trace, role: auxiliary, lengths: [2, 6], options: {side: 3}}]"
    )
    _, runs = plan("shortest_path", "dfs_trace", overrides=(mazes,), seeds=(0,))
    assert ranges(runs[0].config) == ((2, 3), (4,))  # of 2 x 2 nodes


def test_options_that_ask_for_longer_examples_are_heeded():
    wide = "{task: mqar, role: auxiliary, lengths: [6, 9], options: {query_width: 5}}"
    mixture = f"mixture=[{{task: reverse, role: target, lengths: [1, 7]}}, {wide}]"
    _, runs = plan("mqar", "reverse", overrides=(mixture,), seeds=(0,))
    assert runs[0].config.mixture[0].lengths == (6, 7)


@pytest.mark.parametrize(
    ("target", "candidates", "settings", "told"),
    [
        ("revers", "mqar", (), ["--target: unknown task 'revers'; did you mean 'reverse'? (known:"]),
        (
            "reverse",
            "mqr,capitalize,capitalise",
            (),
            [
                "--candidates: unknown task 'mqr'; did you mean 'mqar'?",
                "--candidates: unknown task 'capitalise'; did you mean 'capitalize'?",
            ],
        ),
        ("reverse", "mqar,reverse", (), ["--candidates: reverse is the target itself"]),
        ("reverse", "mqar,capitalize,mqar,mqar", (), ["--candidates: mqar is a duplicate"]),
        ("reverse", "mqar", (ALONE,), ["--config: tiny has no auxiliary"]),
        (
            "reverse",
            "mqar",
            ("data.source=dataset", "data.path=rows"),
            ["--config: data.source is 'dataset'"],
        ),
        (
            "reverse",
            "string_copy,capitalize",
            (MIXTURE.replace("[1, 4]", "[1, 2]").replace("[1, 3]", "[1, 2]"),),
            [
                f"{name}: there is no length that reverse is trained on as well, or none beyond it"
                for name in ("string_copy", "capitalize")
            ],
        ),
        ("capitalize_reverse", "mqar", (), ["mqar: there is no length that capitalize_reverse is trained"]),
        (
            "revers",
            "mqr,revers,mqar,mqar",
            (ALONE, "data.source=dataset", "data.path=rows"),
            [
                "--target: unknown task 'revers'",
                "--candidates: unknown task 'mqr'",
                "--candidates: unknown task 'revers'",
                "--candidates: mqar is a duplicate",
                "--candidates: revers is the target itself",
                "--config: tiny has no auxiliary",
                "--config: data.source is 'dataset'",
            ],
        ),
    ],
)
def test_every_mistake_is_reported_before_anything_is_written(
    related, tmp_path, target, candidates, settings, told
):
    done = related(target, candidates, "--name=tiny", *(f"--{setting}" for setting in settings))
    assert done.returncode == 2
    faults = done.stderr.splitlines()
    assert len(faults) == 1 + len(told)
    for line, fault in zip(faults[1:], told, strict=True):
        assert fault in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--by", "gradients"), "--by: unknown score 'gradients'; did you mean 'gradient'?"),
        (("--seeds", "0,0"), "--seeds: [0, 0] must be a list of different integers"),
        (("--steps", "0"), "'0' must be an integer >= 1"),
        (("--candidate", "mqar"), "unknown option --candidate; did you mean --candidates?"),
        (("--train.stepz", "5"), "train.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        (("--train.steps", "5"), "train.steps: say --steps instead"),
        (("--seed.init", "3"), "seed.init: say --seeds instead"),
    ],
)
def test_a_wrong_option_is_reported(related, tmp_path, arguments, told):
    done = related("reverse", "string_copy", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------- real runs


def of_runs(folder):
    """Every file of the runs, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/**/*")}


def test_candidates_are_ranked_by_real_runs(related, tmp_path):
    arguments = ("--steps", 12, "--seeds", "0,1", "--examples", 16, "--jobs", 2, "--by", "cka")
    done = related("capitalize_reverse", "reverse,string_copy", *arguments)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "related-capitalize_reverse"
    out = folder / "related"
    assert str(out) in done.stdout
    assert {path.name for path in out.iterdir()} == {"related.json", "related.md", "related.png"}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "configs", "logs", "related"}
    assert (out / "related.png").stat().st_size > 5000

    data = json.loads((out / "related.json").read_text())
    asked = ("target", "candidates", "steps", "seeds", "examples", "by")
    assert [data[key] for key in asked] == [
        "capitalize_reverse", ["reverse", "string_copy"], 12, [0, 1], 16, "cka"
    ]  # fmt: skip
    places = [(run["candidate"], run["seed"], run["near"], run["far"]) for run in data["runs"]]
    assert places == [
        ("reverse", 0, [1, 2], [3]), ("reverse", 1, [1, 2], [3]),
        ("string_copy", 0, [1, 2], [3, 4]), ("string_copy", 1, [1, 2], [3, 4]),
    ]  # fmt: skip
    for run in data["runs"]:
        run_dir = tmp_path / "runs" / run["run"]
        config = load_config(run_dir / "config.yaml")
        assert (config.seed.init, config.train.steps, config.model.layers) == (run["seed"], 12, 1)
        assert [c.task for c in config.mixture] == ["capitalize_reverse", run["candidate"]]
        found = run["found"]
        assert set(found["scores"]) == set(SCORES)
        far = [r.token_accuracy for r in read_records(run_dir / "eval.jsonl")
               if r.role == "target" and r.length in run["far"]]  # fmt: skip
        assert len(far) == len(run["far"])
        assert found["scores"]["early"] == pytest.approx(fmean(far))
        assert [len(row) for row in found["gradient_by_head"]] == [2]
        assert len(found["gradient_by_layer"]) == len(found["cka_by_layer"]) == 1
        assert -1 <= found["scores"]["gradient"] <= 1.00001
    assert len({json.dumps(run["found"]) for run in data["runs"]}) == 4
    for score in SCORES:
        found = {run: [own["found"]["scores"][score] for own in data["runs"] if own["candidate"] == run]
                 for run in data["candidates"]}  # fmt: skip
        ranked = sorted((name for name in found if None not in found[name]), key=lambda n: -fmean(found[n]))
        assert [place["candidate"] for place in data["rankings"][score]] == ranked
        for place in data["rankings"][score]:
            assert place["mean"] == pytest.approx(fmean(found[place["candidate"]]))
            assert place["by_seed"] == found[place["candidate"]]
    first = data["rankings"]["cka"][0]["candidate"]
    assert f"| 1      | {first}" in done.stdout
    assert "Ranked by CKA of representations" in (out / "related.md").read_text()

    target, means = read_related(out)
    assert (target, list(means)) == ("capitalize_reverse", ["reverse", "string_copy"])
    early = [run["found"]["scores"]["early"] for run in data["runs"]]
    assert [own["early"] for own in means.values()] == pytest.approx([fmean(early[:2]), fmean(early[2:])])

    # the same command, and one that had more to train
    files = of_runs(tmp_path / "runs")
    text = (out / "related.json").read_text()
    for more in ((), ("--seeds", "0,1,2"), ("--train.learning_rate", "0.01")):
        again = related("capitalize_reverse", "reverse,string_copy", *arguments, *more)
        assert again.returncode == 2
        assert "related exists; choose another, or give --overwrite" in again.stderr
    assert of_runs(tmp_path / "runs") == files
    assert (out / "related.json").read_text() == text
    again = related("capitalize_reverse", "reverse,string_copy", *arguments, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert of_runs(tmp_path / "runs") == files
    assert (out / "related.json").read_text() == text
    (out / "mine.txt").write_text("keep")
    spared = related("capitalize_reverse", "reverse,string_copy", *arguments, "--overwrite")
    assert spared.returncode == 2
    assert "holds more than such an analysis" in spared.stderr


def test_damaged_short_runs_are_reported_before_any_training(related, tmp_path):
    assert related("capitalize_reverse", "reverse,string_copy").returncode == 0
    runs, place = tmp_path / "runs", tmp_path / "related"
    damaged = sorted(runs.glob("*/seed-0/model"))
    assert len(damaged) == 2
    (damaged[0] / "model.safetensors").write_bytes(b"damaged")
    (damaged[1] / "tokenizer.json").unlink()
    before = sorted(runs.rglob("*"))
    done = related("capitalize_reverse", "capitalize,reverse,string_copy", "--output", place)
    assert done.returncode == 2
    heading, *faults = done.stderr.splitlines()
    assert heading == "error: 2 faults:"
    for folder, fault in zip(damaged, sorted(faults), strict=True):
        assert f"  {folder} cannot be loaded: " in fault
    assert sorted(runs.rglob("*")) == before
    assert not place.exists()


def test_a_short_training_that_fails_is_reported(related, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_lgt.experiments.launch.PATIENCE", 0.0)
    _, runs = plan_related(
        Question("capitalize_reverse", ("reverse",), 12, (0,), 2),
        DEMO,
        [*SHORT, f"output_dir={tmp_path / 'runs'}"],
    )
    with RunLock.acquire(runs[0].run_dir):
        done = related("capitalize_reverse", "reverse", "--steps", 12, "--seeds", "0")
    assert done.returncode == 1
    assert f"error: {runs[0].id} (reverse, transfer) failed; see" in done.stderr
    assert "is being written by process" in done.stderr
    assert not (tmp_path / "runs" / "related-capitalize_reverse" / "related").exists()


# ---------------------------------------------------------------------------------- rankings by hand


def ranking(folder, target, **by_candidate):
    """Writes a ranking whose scores are these, one a seed: gradients, and their opposites as CKA."""
    measured = [
        Measured(name, seed, f"{name}/seed-{seed}", (1,), (2,), Relatedness(scores_of(value), (), (), ()))
        for name, values in by_candidate.items()
        for seed, value in enumerate(values)
    ]
    question = Question(target, tuple(by_candidate), 5, (0, 1))
    return measured, write_related(question, measured, "gradient_far", folder)


def scores_of(value):
    scores = dict.fromkeys(SCORES)
    if value is not None:
        scores |= {"gradient": value, "gradient_far": value, "cka": -value, "early": 0.25}
    return scores


def test_the_table_of_a_ranking(tmp_path):
    values = {"mqar": [0.1, 0.3], "reverse": [0.6, 0.8], "capitalize": [0.5, None]}
    measured, (table,) = ranking(tmp_path / "related", "string_copy", **values)
    rows = [[str(value) for value in row.values[:5]] for row in table.rows]
    assert [row[:3] for row in rows] == [
        ["1", "reverse", "1.00"], ["2", "mqar", "0.00"], ["None", "capitalize", "None"]
    ]  # fmt: skip
    # of two seeds, t = 12.7 standard errors of .1 on either side, and no cosine is above 1
    assert rows[0][4] == "0.700 (-0.571 to 1.000)"
    assert table.headers[4] == "gradient cosine, far"
    data = json.loads((tmp_path / "related" / "related.json").read_text())
    assert [place["candidate"] for place in data["rankings"]["cka"]] == ["mqar", "reverse"]
    assert data["rankings"]["ablation"] == []
    assert data["rankings"]["cka"][0]["first"] == rank(measured, "cka")[0].first == 1.0
    target, means = read_related(tmp_path / "related")
    assert target == "string_copy"
    assert means["reverse"] == pytest.approx({**scores_of(0.7)})
    assert means["capitalize"]["gradient"] is None
    assert means["capitalize"]["early"] is None


# ---------------------------------------------------------------------------------- prediction

# target -> auxiliary -> exact match beyond 8 on the two seeds
REACHED = {
    "string_copy": {"capitalize": (0.9, 0.7), "reverse": (0.3, 0.4), "mqar": (0.1, 0.2)},
    "reverse": {"string_copy": (0.2, 0.2), "capitalize_reverse": (0.6, 0.9)},
}
ALONE_REACHES = {"string_copy": (0.1, 0.05), "reverse": (0.02, 0.08)}
PAIRS = [(target, other) for target, others in REACHED.items() for other in others]
# what short runs said: best first for the one target, worst for the other
SCORED = {
    "string_copy": {
        "capitalize": [0.8, 0.6],
        "reverse": [0.3, 0.5],
        "mqar": [0.1, 0.1],
        "capitalize_reverse": [0.0, 1.0],
    },
    "reverse": {"string_copy": [0.9, 0.7], "capitalize_reverse": [0.2, 0.4]},
}


def lay_out(folder, arms="[transfer, target_alone]", unfinished=(), more=""):
    """A sweep over the pairs as the recipe leaves it; (target, arm, seed) of those that are not finished."""
    text = f"name: pairs\nconfig: {STRINGS}\narms: {arms}\nseeds: [0, 1]\n{more}groups:\n"
    for target, other in PAIRS:
        parts = (target, "target", 1, 8), (other, "auxiliary", 3, 16)
        mixture = ", ".join(f"{{task: {t}, role: {r}, lengths: [{a}, {b}]}}" for t, r, a, b in parts)
        text += f"  {target} + {other}: {{mixture: [{mixture}]}}\n"
    (folder / "sweep.yaml").write_text(text)
    spec = load_sweep(folder / "sweep.yaml")
    runs = experiment_plan.plan(spec, [f"output_dir={folder / 'runs'}"])
    record_plan(spec, runs)
    for run in runs:
        target, _, other = run.group.partition(" + ")
        # the groups of a target have the same runs of it alone
        if (target, run.arm, run.seed) not in unfinished and not run.run_dir.exists():
            reaches = {"transfer": REACHED[target][other], "target_alone": ALONE_REACHES[target]}
            finish(run, exact_match(reaches.get(run.arm, (0.95, 0.95))[run.seed]))
    return folder / "runs" / "pairs"


def exact_match(reached):
    def exact(task, length, step):
        if length <= 8:
            return 1.0
        if step == 100 or length > 16:  # of no interest, as are the auxiliaries
            return 0.0
        return reached + 0.01 * ((length == 9) - (length == 16)) if task in REACHED else 0.5

    return exact


@pytest.fixture(scope="module")
def rankings(tmp_path_factory):
    """Folders of the rankings; tests must leave them as they are."""
    folders = []
    for target, by_candidate in SCORED.items():
        folders.append(tmp_path_factory.mktemp(target) / "related")
        ranking(folders[-1], target, **by_candidate)
    return folders


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Folder of the sweep; tests must leave it as it is, but for its analysis."""
    return lay_out(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def predict(call_recipe):
    def call(folder, rankings, *arguments):
        return call_recipe("analyze.py", "predict", folder, "--related", *rankings, *arguments)

    return call


def gain_of(pair):
    target, other = pair
    both = zip(REACHED[target][other], ALONE_REACHES[target], strict=True)
    return pytest.approx([reached - before for reached, before in both])


def reached(run_dir):
    """Mean exact match of a run's target at lengths 9 to 16 in its last evaluation."""
    lines = [json.loads(line) for line in (run_dir / "eval.jsonl").read_text().splitlines()]
    last = max(line["step"] for line in lines)
    return fmean(
        line["exact_match"]
        for line in lines
        if line["role"] == "target" and line["step"] == last and 8 < line["length"] <= 16
    )


def test_predicted_beside_measured_gain(sweep, rankings, predict):
    done = predict(sweep, rankings)
    assert done.returncode == 0, done.stderr
    out = sweep / "analysis" / "predict"
    assert str(out) in done.stdout
    names = {"prediction.json", "prediction.md", "transfer.png", "scores.png"}
    assert {path.name for path in out.iterdir()} == names
    assert min(path.stat().st_size for path in out.glob("*.png")) > 5000
    data = json.loads((out / "prediction.json").read_text())

    manifest = json.loads((sweep / "manifest.json").read_text())
    runs = {(r["group"], r["arm"], r["seed"]): reached(sweep / r["folder"]) for r in manifest["runs"]}
    gained, said = {}, {}
    for target, other in PAIRS:
        with_it, alone = ([runs[f"{target} + {other}", arm, seed] for seed in (0, 1)]
                          for arm in ("transfer", "target_alone"))  # fmt: skip
        gained[target, other] = [a - b for a, b in zip(with_it, alone, strict=True)]
        assert gained[target, other] == gain_of((target, other))
        said[target, other] = fmean(SCORED[target][other])
    assert [(pair["target"], pair["auxiliary"]) for pair in data["pairs"]] == PAIRS
    for pair in data["pairs"]:
        key = pair["target"], pair["auxiliary"]
        assert pair["gains"] == pytest.approx(gained[key])
        assert pair["mean"] == pytest.approx(fmean(gained[key]))
        assert pair["scores"] == pytest.approx(scores_of(said[key]))

    predictors = {own["score"]: own for own in data["predictors"]}
    assert list(predictors) == [*SCORES, CHOSEN]
    measured = {key: fmean(values) for key, values in gained.items()}
    found = predictors["gradient_far"]
    assert found["rho"] == pytest.approx(spearman([*said.values()], [*measured.values()]))
    assert predictors["cka"]["rho"] == pytest.approx(-found["rho"])
    copies = [key for key in PAIRS if key[0] == "string_copy"]
    assert found["within"] == {"string_copy": 1.0, "reverse": None}  # of two candidates
    assert found["without"] == {"string_copy": None, "reverse": 1.0}
    assert found["within_mean"] == 1.0
    first, second = found["choices"]
    assert (first["taken"], second["taken"]) == ("capitalize", "string_copy")
    assert first["gain"] == first["best"] == pytest.approx(measured["string_copy", "capitalize"])
    assert first["average"] == pytest.approx(fmean(measured[key] for key in copies))
    assert second["best"] == pytest.approx(measured["reverse", "capitalize_reverse"])
    assert (found["hits"], found["pairs"]) == (1, 5)
    assert (predictors["early"]["rho"], predictors["early"]["pairs"]) == (None, 5)
    assert (predictors["ablation"]["rho"], predictors["ablation"]["pairs"]) == (None, 0)
    assert predictors[CHOSEN]["within"] == {"reverse": None}

    text = (out / "prediction.md").read_text()
    assert f"{measured['string_copy', 'mqar']:.3f}" in text
    assert f"{found['rho']:.2f}" in text
    assert "1 of 2" in text

    again = predict(sweep, rankings)
    assert again.returncode == 2
    assert "predict exists; choose another, or give --overwrite" in again.stderr
    assert predict(sweep, rankings, "--overwrite").returncode == 0
    assert json.loads((out / "prediction.json").read_text()) == data


def test_a_score_that_is_not_known_has_a_row_of_dashes(sweep, rankings, predict, tmp_path):
    done = predict(sweep, rankings, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("**")
    lines = tables[tables.index("Which score predicts the measured gain?") + 1].strip().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    rows = {row[0]: row[1:] for row in cells}
    assert rows["overlap of ablation maps"] == ["0", "–", "–", "–", "–", "0 of 0", "–", "–", "–"]
    assert rows["early accuracy, far"][:3] == ["5", "–", "–"]


def test_a_sweep_of_auxiliaries_alone_is_measured_as_it_is(tmp_path, rankings):
    pairs = find_pairs(lay_out(tmp_path, arms="[transfer]"), rankings)
    assert [(pair.target, pair.auxiliary) for pair in pairs] == PAIRS
    for pair in pairs:
        assert pair.gains == pytest.approx(REACHED[pair.target][pair.auxiliary])


def test_only_seeds_that_have_both_arms_are_measured(tmp_path, rankings):
    unfinished = {("string_copy", "target_alone", 0), ("reverse", "transfer", 1)}
    pairs = find_pairs(lay_out(tmp_path, unfinished=unfinished), rankings)
    assert [(pair.target, pair.auxiliary) for pair in pairs] == PAIRS
    for pair in pairs:
        seed = 1 if pair.target == "string_copy" else 0
        whole = REACHED[pair.target][pair.auxiliary][seed] - ALONE_REACHES[pair.target][seed]
        assert pair.gains == pytest.approx([whole])


@pytest.mark.parametrize(
    "arms", ["transfer, target_alone, target_long", "transfer, target_alone, disjoint_heads"]
)
def test_the_gain_is_that_over_the_target_alone_whatever_other_arms_there_are(tmp_path, rankings, arms):
    pairs = find_pairs(lay_out(tmp_path, arms=f"[{arms}]"), rankings)
    assert [(pair.target, pair.auxiliary) for pair in pairs] == PAIRS
    for pair in pairs:
        assert pair.gains == gain_of((pair.target, pair.auxiliary))


def test_the_gain_is_that_of_the_arm_transfer_wherever_it_stands(tmp_path, rankings):
    pairs = find_pairs(lay_out(tmp_path, arms="[disjoint_heads, transfer, target_alone]"), rankings)
    assert [(pair.target, pair.auxiliary) for pair in pairs] == PAIRS
    for pair in pairs:
        assert pair.gains == gain_of((pair.target, pair.auxiliary))


def test_adapters_are_refused():
    pretrained = ROOT / "recipes/smollm/group_strings.yaml"
    with pytest.raises(ConfigError, match=r"peft\.method: 'lora'; candidates are compared with all weights"):
        plan_related(Question("reverse", ("mqar",), 5, (0,)), pretrained, ["peft.method=lora"])


def test_two_rankings_of_one_pair_are_refused(sweep, rankings, tmp_path):
    ranking(tmp_path / "again", "reverse", string_copy=[0.1, 0.2])
    with pytest.raises(ConfigError, match="again: another of them ranks string_copy for reverse too"):
        find_pairs(sweep, [*rankings, tmp_path / "again"])


def test_where_one_target_was_not_trained_alone_it_is_reported(tmp_path, rankings):
    folder = lay_out(tmp_path, unfinished={("reverse", "target_alone", seed) for seed in (0, 1)})
    with pytest.raises(ConfigError, match=r"reverse \+ string_copy.* with and without"):
        find_pairs(folder, rankings)


def test_a_sweep_of_several_settings_is_refused(tmp_path, rankings, predict):
    folder = lay_out(tmp_path, more="grid: {train.learning_rate: [1.0e-3, 2.0e-3]}\n")
    done = predict(folder, [rankings[0], tmp_path])
    assert done.returncode == 2
    assert f"{folder}: has a grid (train.learning_rate)" in done.stderr
    assert f"--related: {tmp_path / 'related.json'}: No such file" in done.stderr
    assert not (folder / "analysis").exists()


def test_too_few_pairs_in_common_are_reported_with_those_there_are(sweep, rankings, predict, tmp_path):
    done = predict(sweep, rankings[1:], "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "fewer than 3 of its pairs of one target and one auxiliary are in --related" in done.stderr
    known = ", ".join(f"{target} beside {other}" for target, other in PAIRS)
    assert f"it measured: {known}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_sweep_and_one_that_is_no_ranking_are_reported_together(
    tmp_path, rankings, predict
):
    for name in ("nothing", "other"):
        (tmp_path / name).mkdir()
    done = predict(tmp_path / "nothing", [rankings[0], tmp_path / "other", tmp_path / "none"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: 3 faults:",
        f"  --related: {tmp_path / 'other' / 'related.json'}: No such file or directory",
        f"  --related: {tmp_path / 'none' / 'related.json'}: No such file or directory",
        f"  {tmp_path / 'nothing' / 'manifest.json'}: No such file or directory",
    ]
    assert not [*(tmp_path / "nothing").iterdir()]


DAMAGES = {
    "no JSON": lambda text: "{" + text,
    "a list": lambda text: json.dumps([1]),
    "no runs": lambda text: json.dumps({"target": "reverse"}),
    "no target": lambda text: text.replace('"target"', '"goal"'),
    "a run of nothing": lambda text: json.dumps({**json.loads(text), "runs": [{}]}),
    "a score is missing": lambda text: text.replace('"cka": -0.8', '"cca": -0.8'),
    "a score in words": lambda text: text.replace('"gradient": 0.8', '"gradient": "high"'),
    "a score is yes": lambda text: text.replace('"gradient": 0.8', '"gradient": true'),
    "a score is no number": lambda text: text.replace('"gradient": 0.8', '"gradient": NaN'),
    "a score without end": lambda text: text.replace('"gradient": 0.8', '"gradient": 1e999'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ranking_is_reported(sweep, rankings, predict, tmp_path, damage):
    text = (rankings[0] / "related.json").read_text()
    file = tmp_path / "related.json"
    file.write_text(DAMAGES[damage](text))
    assert file.read_text() != text
    done = predict(sweep, [tmp_path, rankings[1]], "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"--related: {file} is no ranking that analyze.py related wrote" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_run_of_the_sweep_is_reported(rankings, predict, tmp_path):
    folder = lay_out(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    damaged = (folder / manifest["runs"][0]["folder"] / "eval.jsonl").resolve()
    damaged.write_text("nonsense\n")
    done = predict(folder, [rankings[0], tmp_path])
    assert done.returncode == 2
    assert "error: 2 faults:" in done.stderr
    assert f"{damaged}, line 1" in done.stderr
    assert not (folder / "analysis").exists()


@pytest.mark.parametrize("below", ["", "/related-reverse"])
def test_a_ranking_never_takes_the_place_of_its_runs(related, tmp_path, below):
    out = tmp_path / f"runs{below}"
    done = related("reverse", "capitalize", "--output", out, "--overwrite")
    assert done.returncode == 2
    assert f"--output: {out} is not apart from the short runs" in done.stderr
    assert not (tmp_path / "runs").exists()
