"""The documents say what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import source_tree
import yaml

from s3lora_serve.config import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
SOURCES = sorted(path for package in ("planners", "s3lora_serve") for path in (ROOT / package).rglob("*.py"))


def headings(document: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    titles = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def tree_in(document: Path) -> list[str]:
    """The paths of the annotated tree between ``<!-- tree -->`` marks; two blanks of indent are one level."""
    block = document.read_text().split("<!-- tree -->")[1].split("<!-- /tree -->")[0]
    paths, folders = [], []
    for line in block.splitlines():
        name = line.split()[0] if line.strip() and not line.startswith("```") else ""
        if not name:
            continue
        level = (len(line) - len(line.lstrip())) // 2
        folders[level:] = [name] if name.endswith("/") else []
        paths.append("".join([*folders[:level], name]))
    return paths


def test_every_folder_of_the_repository_is_told():
    """The folders that CONTRIBUTING.md lists exist, and none is missing; architecture.md has those below."""
    listed = set(tree_in(ROOT / "CONTRIBUTING.md"))
    assert [path for path in listed if not (ROOT / path).exists()] == []
    folders = {
        f"{path.name}/"
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in ("build", "dist", "shared")
    }
    assert {f for f in folders if not f.endswith(".egg-info/")} - listed == set()


def test_the_readme_is_read_at_once():
    """At most 150 lines; longer subjects have a page in docs/, which the README links."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in text] == []


def test_the_architectures_tree_is_the_real_one():
    """docs/architecture.md has every source file with the first line of its docstring: run `make tree`."""
    assert source_tree.written() == source_tree.tree()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_inside_the_repository_lead_somewhere(document):
    """Every relative link of a document names a file or a folder."""
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_a_heading_lead_to_one(document):
    """``page.md#heading`` and ``#heading`` name a heading of that page, spelled as GitHub does."""
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", document.read_text())
    targets = [(document.parent / page if page else document, heading) for page, heading in links]
    pages = [(page, heading) for page, heading in targets if page.is_file()]
    assert [f"{page.name}#{heading}" for page, heading in pages if heading not in headings(page)] == []


def test_the_pages_configurations_are_valid(tmp_path):
    """Each example can be copied as it is, where the files that it names are there."""
    (tmp_path / ".s3lora" / "hotpot-sweep").mkdir(parents=True)
    (tmp_path / "good.json").touch()
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = [b for page in pages for b in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(blocks) == 4
    for block in blocks:
        path = tmp_path / "planners.yaml"
        path.write_text(block)
        config = load_config(path)
        assert sorted(config.planners) == sorted(yaml.safe_load(block)["planners"])


def test_the_glossarys_names_are_in_the_code():
    """A name in the last column is defined or used in the sources."""
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    rows = [line.split("|")[3] for line in lines if line.startswith("| **")]
    names = {name for row in rows for name in re.findall(r"`([A-Za-z_]+)`", row)}
    text = "\n".join(path.read_text() for path in SOURCES)
    assert len(names) > 15
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_the_metrics_to_alert_on_are_there():
    """Every metric that the operator's page names is one that the server makes, under that name."""
    page = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"\bs3lora_[a-z]\w*", page)) - {"s3lora_serve"}
    made = "\n".join(path.read_text() for path in (ROOT / "s3lora_serve/service/metrics").glob("*.py"))
    assert len(named) > 7
    # Of a counter the client adds the ending.
    assert [name for name in sorted(named) if f'"{name.removesuffix("_total")}"' not in made] == []


def test_no_document_has_an_empty_place():
    """Every mark for something to be filled in has been filled in."""
    marks = re.compile(r"<!-- (?!/?(?:tree|table|generated|guarded|examined)\b)[^>]*-->|TODO|TBD|FIXME")
    assert {d.name: marks.findall(d.read_text()) for d in DOCUMENTS if marks.search(d.read_text())} == {}
