import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from hf_lgt.experiments.manifest import Entry, Manifest, write_manifest
from hf_lgt.experiments.report import page
from hf_lgt.experiments.report.experiments import LOOSE, find_experiments
from hf_lgt.experiments.report.trained import number_ranges, parameters
from hf_lgt.experiments.report.views import table_view
from hf_lgt.report.blocks import Number, Row, Table
from hf_lgt.report.svg import color_rules, inline, svg_of
from hf_lgt.utils import yaml
from tests.support.report_runs import OWN_DATA, write_experiment, write_grid, write_run

VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = "<script>alert(1)</script>\"'& \\$x_1$"


class Page(HTMLParser):
    """What a page consists of; every element must be closed in its turn."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.faults = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        element = SimpleNamespace(tag=tag, at=dict(attributes), text="", within=tuple(self.open))
        if len(element.at) != len(attributes):
            self.faults.append(f"an attribute twice: {attributes}")
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open[-1].tag != tag:
            self.faults.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag, **attributes):
        return [
            e
            for e in self.elements
            if e.tag == tag and all(e.at.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]

    @property
    def ids(self):
        return {e.at["id"]: e for e in self.elements if "id" in e.at}


def words(element):
    return " ".join(element.text.split())


def report(folder, output=None):
    index, _ = page.write_report(folder, output)
    return index, Page(index.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of a comparison, a grid and a loose run, some of them unfinished."""
    folder = tmp_path_factory.mktemp("runs")
    write_experiment(folder, unfinished=[("target_alone", 1)])
    write_grid(folder)
    write_run(folder, "alone", 3)
    index, parsed = report(folder)
    return SimpleNamespace(folder=folder, index=index, text=index.read_text(encoding="utf-8"), page=parsed)


def test_a_page_is_well_formed_and_its_ids_are_its_own(made):
    assert made.page.faults == []
    assert made.page.open == []
    ids = [e.at["id"] for e in made.page.elements if "id" in e.at]
    assert len(ids) == len(set(ids)) > 50


def test_every_reference_within_the_page_resolves(made):
    ids = made.page.ids
    referred = 0
    for e in made.page.elements:
        for key in ("aria-labelledby", "aria-describedby"):
            for name in e.at.get(key, "").split():
                assert ids[name].text.strip(), name
                referred += 1
        if e.at.get("href", "").startswith("#"):
            assert e.at["href"][1:] in ids
            referred += 1
        for value in e.at.values():
            for name in re.findall(r"url\(#([^)]*)\)", value or ""):
                assert name in ids
                referred += 1
    assert referred > 100


def test_links_to_files_lead_to_them(made):
    links = [e.at["href"] for e in made.page.all("a") if not e.at["href"].startswith("#")]
    assert {Path(link).name for link in links} >= {
        "config.yaml",
        "eval.jsonl",
        "curves.png",
        "demo-curves.svg",
    }
    for link in links:
        assert (made.index.parent / unquote(link)).is_file(), link


def test_nothing_is_loaded_from_anywhere(made):
    for e in made.page.elements:
        assert not {"style", "srcset", "onclick", "onload"} & set(e.at)
        if "src" in e.at:
            assert e.at["src"].startswith("data:image/png;base64,")
        if e.tag != "a" and "href" in e.at:
            assert e.at["href"].startswith(("#", "data:"))
    assert not re.search(r"(https?:)?//(?!www\.w3\.org)[a-z]+\.", made.text)
    assert "@import" not in made.text
    assert made.page.all("link") == made.page.all("base") == made.page.all("iframe") == []


def test_the_policy_allows_the_page_s_own_style_and_script_alone(made):
    (policy,) = [e.at["content"] for e in made.page.all("meta") if "http-equiv" in e.at]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        (element,) = made.page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"


def test_headings_follow_each_other(made):
    levels = [int(e.tag[1]) for e in made.page.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_have_captions_scopes_and_buttons_that_sort(made):
    assert len(made.page.all("table")) >= 10
    for table in made.page.all("table"):
        inside = [e for e in made.page.elements if table in e.within]
        assert sum(e.tag == "caption" and bool(words(e)) for e in inside) == 1
        headers = [e for e in inside if e.tag == "th"]
        assert all(e.at.get("scope") in ("col", "row") for e in headers)
        buttons = [e for e in inside if e.tag == "button"]
        assert all(words(e) for e in buttons)
        assert len(buttons) >= sum(e.at["scope"] == "col" for e in headers) - 1
    for region in made.page.all("div", role="group"):
        assert region.at["tabindex"] == "0"
        assert region.at["aria-labelledby"]


def test_every_figure_is_named_described_and_saved_twice(made):
    figures = made.page.all("figure")
    names = {p.stem for p in (made.index.parent / "figures").iterdir()}
    assert len(figures) == len(names) >= 5
    for name in names:
        for ending, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
            assert (made.index.parent / "figures" / (name + ending)).read_bytes().startswith(begin)
    for svg in made.page.all("svg"):
        assert svg.at["role"] == "img"
        assert words(made.page.ids[svg.at["aria-labelledby"]])
        assert len(words(made.page.ids[svg.at["aria-describedby"]])) > 40
    assert len(made.page.all("svg")) == len(figures)


def test_every_number_leads_to_its_runs_and_these_to_their_configs(made):
    rows = [e for e in made.page.all("tr") if any(w.tag == "tbody" for w in e.within)]
    linked = set()
    for row in rows:
        links = [e.at["href"][1:] for e in made.page.all("a") if row in e.within]
        assert links, words(row)
        linked.update(links)
    entries = {e.at["id"]: e for e in made.page.all("li") if e.at.get("id", "").startswith("run-")}
    assert linked == set(entries)
    assert len(entries) == 4 + 4 + 1
    for entry in entries.values():
        (config,) = [e for e in made.page.all("pre") if entry in e.within]
        shown = yaml.load(config.text)
        assert "output_dir" not in shown
        run_dir = made.folder / shown["name"] / f"seed-{shown['seed']['init']}"
        whole = yaml.load((run_dir / "config.yaml").read_text())
        assert shown == {key: value for key, value in whole.items() if key != "output_dir"}
        assert "capitalize_reverse (target" in words(entry)


def test_numbers_of_a_row_are_those_of_its_run(made):
    run = made.page.ids["run-demo-transfer-seed-0"]
    assert "1–8: 1.000; 9: 0.844; 10: 0.688" in words(run)
    found = find_experiments(made.folder)
    (result,) = [
        r
        for e in found.experiments
        for c in e.cells
        for r in c.results
        if r.entry.id == "demo-transfer/seed-0"
    ]
    table = next(e for e in made.page.all("table") if words(e).startswith("Every run"))
    own = "#run-demo-transfer-seed-0"
    link = next(e for e in made.page.all("a", href=own) if table in e.within)
    row = next(e for e in link.within if e.tag == "tr")
    sorts = [e.at["data-sort"] for e in made.page.all("td") if row in e.within and "data-sort" in e.at]
    assert repr(result.summary.regimes.within) in sorts
    assert repr(result.reach) in sorts


def test_what_is_not_finished_is_reported(made):
    text = words(made.page.all("body")[0])
    assert "3 of 4 runs are finished" in text
    entry = words(made.page.ids["run-demo-target-alone-seed-1"])
    assert "unfinished, evaluated at step 6 of 12 steps" in entry
    assert "1–5: 1.000" in entry


def test_what_was_trained_is_reported(made):
    text = words(made.page.all("body")[0])
    for told in (
        "recipes/demo/compare.yaml",
        "llama, 1 layer, hidden size 96, 4 heads, positions rope",
        "12 steps of 64 examples",
        "initialisation 0–1; data 0",
        "commit 0123456789ab with changes",
        "Python 3.11.7, hf-lgt 0.1.0, torch 2.13.0",
        "cpu (x86_64)",
        "capitalize_reverse 1–8 (alphabet abcd)",
        "lengths 1–10, 32 examples a length, every 3 steps",
    ):
        assert told in text


def test_the_same_runs_give_the_same_bytes(made, tmp_path):
    def contents(folder):
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = contents(made.index.parent)
    page.write_report(made.folder)
    assert contents(made.index.parent) == before
    moved = tmp_path / made.folder.name
    shutil.copytree(made.folder, moved)
    page.write_report(moved)
    assert contents(moved / "report") == before


def test_names_cannot_be_code(tmp_path):
    for seed in (0, 1):
        write_run(
            tmp_path, "hostile", seed, *OWN_DATA,
            f"mixture.0.task={yaml.dump(HOSTILE).strip()}", "mixture.0.options={}", "mixture.1.options={}",
            "mixture.2.options={}",
        )  # fmt: skip
    run_dir = tmp_path / "hostile" / "seed-0"
    write_manifest(
        Manifest(
            f"x{HOSTILE}\u202e",
            (
                Entry(
                    f"</li>{HOSTILE}",
                    HOSTILE,
                    f"--> {HOSTILE}",
                    0,
                    "../hostile/seed-0",
                    {HOSTILE: HOSTILE},
                    HOSTILE,
                ),
            ),
            {HOSTILE: (HOSTILE,)},
            f"{HOSTILE}.yaml",
        ),
        tmp_path / "x",
    )
    (run_dir / "environment.json").write_text(
        '{"python": "<script>2</script>", "device": "]]>", "packages": [1]}'
    )
    index, parsed = report(tmp_path)
    assert parsed.faults == []
    assert len(parsed.all("script")) == 1
    assert "alert(1)" not in parsed.all("script")[0].text
    assert "\u202e" not in index.read_text(encoding="utf-8")
    assert words(parsed.all("body")[0]).count("<script>alert(1)</script>") > 10
    assert all(re.fullmatch("[a-z0-9-]+", name) for name in parsed.ids if not name.startswith("x-"))
    for path in (index.parent / "figures").iterdir():
        assert re.fullmatch(r"[a-z0-9-]+\.(png|svg)", path.name)


def test_a_page_that_would_be_too_large_gives_up_figures_and_then_configs(tmp_path, monkeypatch):
    write_experiment(tmp_path, seeds=range(5))
    index, whole = report(tmp_path)
    everything = index.stat().st_size
    svgs = sum(len(t) for t in re.findall("<svg.*?</svg>", index.read_text(), re.DOTALL))
    assert svgs > 20_000
    configs = sum(len(e.text) for e in whole.all("pre"))

    monkeypatch.setattr(page, "LARGEST", everything - 100)
    index, shared = report(tmp_path)
    assert index.stat().st_size < page.LARGEST
    assert len(shared.all("svg")) == len(whole.all("svg"))
    assert len(shared.all("pre")) == 2
    assert "but for its seeds: 4" in words(shared.ids["run-demo-transfer-seed-4"])

    monkeypatch.setattr(page, "LARGEST", everything - configs - svgs // 2)
    index, fewer = report(tmp_path)
    assert index.stat().st_size < page.LARGEST
    left_out = [e for e in fewer.all("figure") if "Too large for this page" in e.text]
    assert len(fewer.all("svg")) + len(fewer.all("img")) + len(left_out) == len(whole.all("svg"))
    assert 0 < len(left_out) < len(whole.all("svg"))
    assert fewer.faults == []


def test_a_large_figure_becomes_a_picture(tmp_path, monkeypatch):
    write_experiment(tmp_path)
    sizes = []

    def heavy(text, *arguments):
        made = inline(text, *arguments)
        sizes.append(len(made.markup))
        return type(made)(
            made.markup.replace("</svg>", f"<g>{'x' * 3_000_000}</g></svg>"), made.colors, made.wide
        )

    monkeypatch.setattr(page, "inline", heavy)
    index, parsed = report(tmp_path)
    assert index.stat().st_size < 3_000_000
    images = parsed.all("img")
    assert len(images) == len(sizes) > 1
    assert all(len(e.at["alt"]) > 40 for e in images)


def test_a_folder_of_runs_without_a_manifest(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "a", "first", seed)
    write_run(tmp_path / "a", "second", 0, state="begun")
    shutil.copytree(tmp_path / "a" / "first", tmp_path / "b" / "first")
    (tmp_path / "pretrained/seed-0/model").mkdir(parents=True)
    (tmp_path / "pretrained/seed-0/config.yaml").write_text("name: x\ntext: []\n")
    evaluation = tmp_path / "evaluations" / "first"
    evaluation.mkdir(parents=True)
    for name in ("config.yaml", "eval.jsonl"):
        shutil.copy(tmp_path / "a/first/seed-0" / name, evaluation)
    found = find_experiments(tmp_path)
    (experiment,) = found.experiments
    assert experiment.manifest.name == LOOSE
    assert [(e.group, e.arm, e.seed, e.id) for e in experiment.manifest.runs] == [
        ("first in a/first", "", 0, "a/first/seed-0"),
        ("first in b/first", "", 0, "b/first/seed-0"),
        ("first in a/first", "", 1, "a/first/seed-1"),
        ("first in b/first", "", 1, "b/first/seed-1"),
        ("second", "", 0, "a/second/seed-0"),
    ]
    assert [len(c.results) for c in experiment.cells] == [2, 2]
    assert [p.parent.name for p in found.left_out] == ["pretrained"]
    _, parsed = report(tmp_path)
    text = words(parsed.all("body")[0])
    assert "another kind of training: pretrained/seed-0" in text
    assert "unfinished, no evaluation yet of 12 steps" in text


def test_one_run_is_a_folder_of_runs_too(tmp_path):
    run_dir = write_run(tmp_path, "only", 7)
    index, parsed = report(run_dir)
    assert index == run_dir / "report" / "index.html"
    assert "run-only-seed-7" in parsed.ids
    assert any(e.at["href"] == "../config.yaml" for e in parsed.all("a"))


def test_a_run_of_two_experiments_has_one_entry(tmp_path):
    first = write_experiment(tmp_path)
    second = tmp_path / "again"
    shutil.copytree(first, second)
    _, parsed = report(tmp_path)
    assert len([i for i in parsed.ids if i.startswith("run-demo-")]) == 4
    assert len([e for e in parsed.all("li") if words(e).endswith(", above")]) == 4


def test_a_manifest_finds_runs_through_a_link(tmp_path):
    real = tmp_path / "real"
    write_experiment(real)
    (tmp_path / "link").symlink_to(real)
    found = find_experiments(tmp_path / "link")
    assert [len(e.runs) for e in found.experiments] == [4]


def test_an_experiment_without_a_finished_run_has_neither_figures_nor_tables(tmp_path):
    write_experiment(tmp_path, arms=("transfer",), seeds=(0,), unfinished=[("transfer", 0)])
    _, parsed = report(tmp_path)
    text = words(parsed.all("body")[0])
    assert "0 of 1 runs are finished" in text
    assert "No run is finished yet" in text
    assert len(parsed.all("table")) == 1


def test_a_table_s_empty_columns_go_and_its_values_are_marked():
    table = Table(
        "t",
        "Title",
        ("group", "arm", "n", "value"),
        (
            Row(("a", "", 1000, Number(-0.5, -0.75, 0.25)), ()),
            Row(("b", "", None, Number(float("nan"))), ()),
        ),
    )
    made = table_view("t", table, {})
    assert made.headers == [("group", False), ("n", True), ("value", True)]
    first, second = ([(c.text, c.interval, c.sort, c.missing) for c in row.cells] for row in made.rows)
    assert first == [
        ("a", "", None, False),
        ("1,000", "", "1000", False),
        ("−0.500", "(−0.750 to 0.250)", "-0.5", False),
    ]
    assert second == [("b", "", None, False), ("–", "", None, True), ("nan", "", None, True)]
    assert not made.linked


def css_colors():
    text = Path(page.__file__).with_suffix(".css").read_text()
    return {
        name: pair
        for name, *pair in re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    }


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_is_that_of_the_definition():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_words_stand_out_in_light_and_dark(mode):
    colors = {name: pair[mode] for name, pair in css_colors().items()}
    assert len(colors) == 8
    for ink in ("ink", "muted", "link"):
        for ground in ("ground", "paper", "head", "target"):
            assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)


def figure_of_words():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    heat, plain = figure.subplots(1, 2)
    heat.imshow([[0.0, 1.0]], cmap="cividis")
    heat.text(0, 0, "on a cell", color="white")
    plain.plot([0, 1], [0, 1], color="#0072B2")
    plain.text(0, 0, "free & <b>", color="#444444")
    return figure


def test_greys_follow_the_page_but_not_on_heat_maps():
    made = inline(svg_of(figure_of_words(), "a"), "p", "l", 'what "it" <shows>')
    parsed = Page(made.markup)
    assert parsed.faults == []
    fill = {words(e): (e.at["fill"], e.at.get("class")) for e in parsed.all("text")}
    assert fill["on a cell"] == ("#ffffff", None)
    assert fill["free & <b>"] == ("#444444", "f-444444")
    rules = color_rules(made.colors)
    assert ".f-444444{fill:color-mix(in srgb,var(--ink) 73%,var(--paper))}" in rules
    assert ".s-0072b2{stroke:light-dark(#0072b2,color-mix(in srgb,#0072b2 68%,#ffffff))}" in rules
    assert {".f-000000", ".f-ffffff"} <= set(re.findall(r"\.f-\w+", rules))
    assert words(parsed.all("desc")[0]) == 'what "it" <shows>'
    assert not any("style" in e.at for e in parsed.elements)
    assert not parsed.all("style")


def test_two_figures_share_no_ids():
    texts = [inline(svg_of(figure_of_words(), "salt"), name, "l", "d").markup for name in "ab"]
    first, second = (set(Page(text).ids) for text in texts)
    assert first
    assert not first & second


def test_a_scale_of_many_colours_stays_as_it_is():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.bar(range(40), 1, color=[(i / 40, 0.2, 0.9) for i in range(40)])
    made = inline(svg_of(figure, "a"), "p", "l", "d")
    assert all(color[1:3] == color[3:5] == color[5:7] for color in made.colors)


def test_parameters_are_counted_from_the_heads_of_the_files(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    assert parameters(tmp_path) is None
    (tmp_path / "model").mkdir()
    save_file({"a": np.zeros((3, 4)), "b": np.zeros(5)}, tmp_path / "model/model-1.safetensors", {"k": "v"})
    save_file({"c": np.zeros((2, 2))}, tmp_path / "model/model-2.safetensors")
    assert parameters(tmp_path) == 21
    (tmp_path / "model/model-2.safetensors").write_bytes(b"\xff" * 20)
    assert parameters(tmp_path) is None


def test_ranges_are_short():
    assert number_ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"
    assert number_ranges([]) == ""
