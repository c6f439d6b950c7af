"""Results in Markdown pages."""

import json

import pytest

from hf_lgt import ConfigError
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.claims import Claim
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.pages import page_text, write_page
from hf_lgt.experiments.report.stored import Results, results_data
from hf_lgt.experiments.report.verdict_tables import result_tables
from hf_lgt.experiments.results import seed_groups
from hf_lgt.report.blocks import Number
from tests.support.made_results import made
from tests.unit.data_builders.test_texts import rendered

CLAIMS = (
    Claim({"arm": "transfer"}, {"arm": "target_alone"}),
    Claim({"arm": "target_alone"}, {}, expected=False),
)
PAGE = """# A page

before <!-- a comment -->

<!-- verdict cpu.json -->
old
<!-- end -->

between

<!-- results cpu.json: summary curves differences -->
<!-- end -->
after `<!-- results cpu.json -->`
"""


def results_of(arms, seeds=5, claims=CLAIMS, kept="", **more):
    runs = [made(arm, seed, reach, **more) for arm, reach in arms.items() for seed in range(seeds)]
    return Results(Manifest("m", tuple(r.entry for r in runs)), seed_groups(runs), claims, kept)


RESULTS = results_of({"transfer": 0.9, "target_alone": 0.0})


@pytest.fixture
def page(tmp_path):
    """A page with its files of numbers beside it."""

    def make(text=PAGE, results=RESULTS, name="cpu.json"):
        if results is not None:
            (tmp_path / name).write_text(json.dumps(results_data(results, tmp_path)))
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        return tmp_path / "README.md"

    return make


def test_marks_are_filled_and_what_is_around_them_stays(page, tmp_path):
    path = page()
    assert write_page(path) == [tmp_path / "cpu_curves.png"]
    assert (tmp_path / "cpu_curves.png").read_bytes()[:4] == b"\x89PNG"
    text = path.read_text(encoding="utf-8")
    tables = {table.name: table.markdown() for table in result_tables(RESULTS)}
    difference = Number(0.9, *paired_difference([0.9] * 5, [0.0] * 5)[1])
    none = Number(0.0, *mean_interval([0.0] * 5, bounds=(-1, 1)))
    assert text == (
        "# A page\n\nbefore <!-- a comment -->\n\n"
        "<!-- verdict cpu.json -->\n"
        "**Verdict: partly.**\n\n"
        "- transfer: arm transfer above arm target_alone? 0.900 against 0.000, a difference of "
        f"{difference} over 5 seeds: reproduces.\n"
        "- target_alone: arm target_alone not above 0? 0.000 against 0.000, a difference of "
        f"{none} over 5 seeds: underpowered.\n"
        "<!-- end -->\n\nbetween\n\n"
        "<!-- results cpu.json: summary curves differences -->\n"
        f"{tables['summary']}\n\n"
        "![Exact match of the target by length](cpu_curves.png)\n\n"
        f"{tables['differences']}\n"
        "<!-- end -->\n"
        "after `<!-- results cpu.json -->`\n"
    )


def test_a_page_that_is_up_to_date_is_not_touched(page):
    path = page()
    write_page(path)
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns
    assert page_text(path) == path.read_text(encoding="utf-8")
    write_page(path)
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before


def test_new_numbers_replace_old_ones(page):
    path = page()
    write_page(path)
    old = path.read_text(encoding="utf-8")
    page(old, results_of({"transfer": 0.4, "target_alone": 0.0}))
    write_page(path)
    new = path.read_text(encoding="utf-8")
    assert "0.400 against 0.000" in new
    assert "0.900" not in new
    page(new)
    write_page(path)
    assert path.read_text(encoding="utf-8") == old


def test_a_mark_without_names_has_what_there_is_of_the_usual(page, tmp_path):
    path = page("<!-- results cpu.json -->\n<!-- end -->\n")
    write_page(path)
    text = path.read_text(encoding="utf-8")
    tables = {table.name: table.markdown() for table in result_tables(RESULTS)}
    assert [name for name in tables if tables[name] in text] == ["summary", "lengths", "differences"]
    assert "(cpu_curves.png)" in text
    # one arm is compared with nothing
    path = page("<!-- results cpu.json -->\n<!-- end -->\n", results_of({"transfer": 0.9}))
    write_page(path)
    assert "Paired differences" not in path.read_text(encoding="utf-8")


def test_files_of_several_experiments_have_figures_of_their_own(page, tmp_path):
    page(name="a-b.json")
    text = "".join(f"<!-- results {name}.json: reach -->\n<!-- end -->\n" for name in ("cpu", "a-b"))
    assert write_page(page(text)) == [tmp_path / "cpu_reach.png", tmp_path / "a-b_reach.png"]


def test_runs_that_are_kept_are_said_to_be(page):
    kept = "one data seed for all, *see* <b>there</b>"
    path = page(
        "<!-- results cpu.json: summary -->\n<!-- end -->\n", results_of({"transfer": 0.9}, kept=kept)
    )
    write_page(path)
    first = path.read_text(encoding="utf-8").splitlines()[1]
    assert first.startswith("These runs are kept from an earlier version: one data seed for all, ")
    assert "kept from" not in page_text(page())
    found = rendered(first)
    assert kept in found.text
    assert not {"b", "em"} & set(found.tags)


def test_names_cannot_break_a_page(page):
    """Nor end its marks."""
    odd = "<!-- end --> *x* <script>"
    results = results_of(
        {"transfer": 0.9, "target_alone": 0.0},
        group=odd,
        claims=[Claim({"group": odd, "arm": "transfer"}, {})],
    )
    path = page(results=results)
    write_page(path)
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- end -->") == PAGE.count("<!-- end -->")
    assert "<script>" not in text
    assert page_text(path) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# nothing\n", "has no mark such as <!-- results cpu.json --> ... <!-- end -->"),
        ("see <!-- results cpu.json -->\n<!-- end -->\n", "has no mark such as"),
        ("<!-- results cpu.json -->\nmine\n", "<!-- results cpu.json --> is not as in"),
        ("<!-- results: cpu.json -->\n<!-- end -->\n", "<!-- results: cpu.json --> is not as in"),
        ("<!-- results ../cpu.json -->\n<!-- end -->\n", "<!-- results ../cpu.json --> is not as in"),
        ("<!-- results cpu.json:summary -->\n<!-- end -->\n", "<!-- results cpu.json:summary --> is not as"),
        (
            "<!-- results cpu.json -->\nmine\n<!-- verdict cpu.json -->\n<!-- end -->\n",
            "<!-- results cpu.json --> is not as in <!-- results cpu.json: summary --> or has no <!-- end",
        ),
        (
            "<!-- verdict cpu.json -->\n<!-- end -->\n\n<!-- verdict cpu.json -->\nmine\n",
            "<!-- verdict cpu.json --> is not as in",
        ),
        (
            "<!-- results cpu.json: summary nothing -->\n<!-- end -->\n",
            "cpu.json has no table or figure 'nothing' (known: summary, verdicts, lengths, differences, ",
        ),
        ("<!-- results gpu.json -->\n<!-- end -->\n", "gpu.json: No such file"),
    ],
)
def test_what_cannot_be_filled_is_one_error_and_nothing_is_written(page, tmp_path, text, told):
    path = page(text)
    with pytest.raises(ConfigError) as caught:
        write_page(path)
    (fault,) = caught.value.faults
    assert told in fault
    assert str(tmp_path) in fault
    assert path.read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "cpu.json"]


def test_a_damaged_file_of_numbers_is_one_error(page, tmp_path):
    path = page()
    (tmp_path / "cpu.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cpu\.json is not JSON") as caught:
        write_page(path)
    assert len(caught.value.faults) == 1
    assert path.read_text() == PAGE


def test_without_claims_there_is_no_verdict(page):
    with pytest.raises(ConfigError, match=r"README\.md: cpu\.json has no claims"):
        write_page(page(results=results_of({"transfer": 0.9}, claims=())))


def test_claims_without_finished_runs_are_underpowered(page):
    claims = [Claim({"arm": "transfer"}, {"arm": "elsewhere"})]
    path = page(results=results_of({"transfer": 0.9, "target_alone": 0.0}, claims=claims))
    write_page(path)
    assert "**Verdict: underpowered.** No finished runs have what the claims compare.\n" in path.read_text()


def test_a_page_that_cannot_be_read_is_one_error(page, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.md: No such file"):
        write_page(tmp_path / "nowhere.md")
    path = page()
    path.write_bytes(b"\xff" + PAGE.encode())
    with pytest.raises(ConfigError, match=r"README\.md: is no text in UTF-8"):
        write_page(path)


def test_an_overview_has_the_verdict_of_each_page_below(page, tmp_path):
    below = tmp_path / "fig1"
    below.mkdir()
    (below / "README.md").write_text("# Sums\n\ntext\n", encoding="utf-8")
    data = results_data(results_of({"transfer": 0.9, "target_alone": 0.0}, kept="padded"), tmp_path)
    (below / "cpu.json").write_text(json.dumps(data), encoding="utf-8")
    path = page("<!-- overview cpu.json -->\n<!-- end -->\n", results=None)
    assert write_page(path) == []
    (row,) = [row for row in path.read_text(encoding="utf-8").splitlines() if "fig1" in row]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["[Sums](fig1/README.md)", "5", "an earlier version", "partly"]
