import ast
import re
import shutil
import subprocess
import sys

import pytest

import data_builders
import hf_lgt
from tests.conftest import ROOT

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "accelerate", "evaluate", "matplotlib", "pydantic")
HEAVY += ("huggingface_hub",)

# A package may import from the packages above its own row in this list, and no other; those of one row are
# independent. docs/architecture.md shows the same layers.
LAYERS = [
    ["utils"],
    ["config"],
    ["data"],
    ["models", "checkpointing"],
    ["training", "evaluation"],
    ["report"],
    ["workflows", "experiments", "analysis", "pretraining"],
    ["commands"],
]
BELOW, ABOVE = "data_builders", "recipes"
CORPUS_TAKES = {
    "corpus.arrow": {"pyarrow"},
    "corpus.build": {"datasets", "pyarrow"},
    "corpus.card": {"datasets", "huggingface_hub"},
    "corpus.folder": {"datasets", "pyarrow"},
    "corpus.lm_eval": {"pyarrow", "yaml"},
    "corpus.parallel": {"multiprocess"},  # of `datasets`: it pickles the tasks of a notebook too
    "corpus.language": {"datasets", "huggingface_hub"},
    "hub.push": {"huggingface_hub"},
    "hub.retry": {"huggingface_hub", "tenacity"},
    "redaction": {"huggingface_hub"},
}
LEVEL = {part: level for level, parts in enumerate([[BELOW], *LAYERS, [ABOVE]]) for part in parts}
LEVEL["__main__"] = LEVEL[ABOVE]


def part_of(module):
    """``hf_lgt.evaluation.curves`` -> ``evaluation``; None for what is not of the project."""
    names = module.split(".")
    if names[0] in ("data_builders", "recipes"):
        return names[0]
    return None if names[0] != "hf_lgt" else ".".join(names[1:2]) or "hf_lgt"


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports_of(source):
    """Every module that a source imports, within functions and for type checkers too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if is_module(below) else node.module


def modules(*folders):
    """(name, source) of the project's modules."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path.read_text(encoding="utf-8")


def test_the_parser_finds_imports_wherever_they_are():
    source = """
import numpy as np, torch.nn
from hf_lgt.utils import yaml
from hf_lgt import ConfigError
def f():
    from hf_lgt.evaluation import curves
    if TYPE_CHECKING:
        import datasets
"""
    assert sorted(imports_of(source)) == [
        "datasets",
        "hf_lgt",
        "hf_lgt.evaluation.curves",
        "hf_lgt.utils.yaml",
        "numpy",
        "torch.nn",
    ]


def test_the_house_is_small():
    packages = {p.name for p in (ROOT / "hf_lgt").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert len(LAYERS) <= 8
    assert packages == {part for parts in LAYERS for part in parts}
    assert len(packages) <= 13
    assert len([*(ROOT / "hf_lgt").glob("*.py")]) <= 4


def test_the_architecture_page_shows_these_layers():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| ([0-9]+) \| `(\w+)` \|", page, re.MULTILINE)
    assert shown == [(str(i), part) for i, parts in enumerate(LAYERS, 1) for part in parts]
    for path in re.findall(r"`((?:data_builders|hf_lgt)/[^`]*)`", page):
        assert (ROOT / path).exists(), path


def test_packages_import_from_lower_layers_only():
    wrong = []
    for name, source in modules("data_builders", "hf_lgt", "recipes"):
        part = part_of(name)
        if part == "hf_lgt":
            continue  # the public names, which nothing inside uses: see below
        for imported in imports_of(source):
            other = part_of(imported)
            if other not in (None, part) and LEVEL.get(other, len(LEVEL)) >= LEVEL[part]:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    names = {name for name, _ in modules("data_builders", "hf_lgt")}
    graph = {
        name: {i for i in imports_of(source) if i in names}
        for name, source in modules("data_builders", "hf_lgt")
    }
    assert [name for name in names if name in reachable(graph, name)] == []


def reachable(graph, start):
    """The modules that one imports, directly or through others."""
    found, todo = set(), [*graph[start]]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


SHARED_NAMES = {"main"}
"""what every recipe is called by"""


def names_defined(source):
    """Public classes and functions of a module."""
    kinds = ast.ClassDef | ast.FunctionDef
    found = (node.name for node in ast.parse(source).body if isinstance(node, kinds))
    return [name for name in found if not name.startswith("_")]


def test_no_two_classes_or_public_functions_have_one_name():
    places = {}
    for module, source in modules("hf_lgt", "data_builders", "recipes"):
        for name in names_defined(source):
            places.setdefault(name, []).append(module)
    assert {name: own for name, own in places.items() if len(own) > 1 and name not in SHARED_NAMES} == {}


MOST_PARAMETERS = 8
# still to take objects
LONG = {"push_folder", "write_corpus"}


def test_no_function_takes_more_than_eight_parameters():
    long = []
    for module, source in modules("hf_lgt", "data_builders", "recipes"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
                    long.append(f"{module}.{node.name}")
    assert [name for name in long if name.rpartition(".")[2] not in LONG] == []


def test_the_data_builders_need_numpy_alone_but_for_corpora_and_the_hub():
    taken = {"others": set()}
    for name, source in modules("data_builders"):
        place = name.removeprefix("data_builders.")
        found = {imported.split(".")[0] for imported in imports_of(source)}
        taken.setdefault(place if place in CORPUS_TAKES else "others", set()).update(found)
    for place, names in taken.items():
        more = CORPUS_TAKES.get(place, set())
        assert names - set(sys.stdlib_module_names) - {"numpy", "data_builders"} == more, place


@pytest.mark.parametrize(
    "package", ["data_builders", "hf_lgt", "hf_lgt.commands.cli", "hf_lgt.commands.main"]
)
def test_importing_a_package_loads_nothing_heavy(package):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {package}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {name.split(".")[0] for name in done.stdout.split()} & set(HEAVY) == set()


def test_a_config_is_read_without_torch():
    code = f"import sys, hf_lgt; hf_lgt.load_config({str(ROOT / 'recipes/demo/transfer.yaml')!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & set(HEAVY) == {"pydantic"}


@pytest.mark.parametrize("package", [data_builders, hf_lgt])
def test_every_public_name_is_there(package):
    assert len(set(package.__all__)) == len(package.__all__) > 5
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'hf_lgt' has no attribute 'nothing'"):
        _ = hf_lgt.nothing


def test_a_new_module_of_tasks_may_import_from_the_front_door(tmp_path):
    shutil.copytree(ROOT / "data_builders", tmp_path / "data_builders")
    readme = (ROOT / "docs/how-to/python.md").read_text(encoding="utf-8")
    snippet = readme.split("```python\nfrom data_builders import Sample, register_task")[1].split("```")[0]
    module = "from data_builders import Sample, register_task" + snippet
    (tmp_path / "data_builders/tasks/a_first.py").write_text(module)
    code = "from data_builders import list_tasks; print('twice' in list_tasks())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "True", done.stderr
