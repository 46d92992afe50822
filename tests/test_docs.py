"""What the documents point to is there."""

import pathlib
import re
import runpy

import pytest

from jaxdd.cli import main

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_pages_that_configs_name_are_there():
    named = set()
    for config in ROOT.glob("configs/*.py"):
        named |= set(re.findall(r"docs/[\w/.-]+\.md", config.read_text()))
    assert named and not [page for page in named if not (ROOT / page).exists()]


@pytest.mark.endurance
def test_the_page_about_own_methods_does_what_it_says(tmp_path, monkeypatch, capsys):
    module, script, *_ = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "your_own_method.md").read_text(), re.DOTALL
    )
    (tmp_path / "my_methods.py").write_text(module)
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "means.py").write_text(
        "from jaxdd.cli import template\n"
        'def get_config(): return template("my_methods:class_means", run={"steps": 200})\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path("script.py")
    assert "(10, 28, 28, 1)" in capsys.readouterr().out
    options = ["--config.method.rate=0.2", "--config.evaluation.networks=1", "--evaluate=quick"]
    assert main(["distill", "--config=means.py", "--workdir=runs/means", *options]) == 0
    assert (tmp_path / "runs" / "means" / "report.html").exists()
