"""The matrix of sets and models in words."""

from jaxdd.report import write_report
from jaxdd.report.architectures import headings, matrix, notes


def column(model, **about):
    return {
        "model": model,
        "protocol": "quick",
        "networks": 5,
        "seed": 0,
        "data": "digits",
        "measure": "accuracy",
        **about,
    }


def cell(mean, std=0.01, note=None):
    return {"mean": mean, "std": std, "learning_rate": None, "note": note}


TWO = {
    "columns": [column("mlp"), column("convnet(width=32, norm='<b>')")],
    "rows": [
        {"name": "distilled", "cells": [cell(0.71), cell(0.6)]},
        {"name": "herding", "cells": [cell(None, None, "not measured: few"), cell(0.5, None)]},
    ],
}


def test_cells_and_headings():
    found = matrix(TWO)
    assert found.columns == ["training set", "mlp", "convnet(width=32, norm='<b>')"]
    assert [[text.replace("\xa0", " ") for text in line] for line in found.cells] == [
        ["distilled", "71.0 ± 1.0 %", "60.0 ± 1.0 %"],
        ["herding", "", "50.0 %"],
    ]
    assert found.ours == [True, False] and found.numeric == [False, True, True]
    assert matrix(None).cells == [] and notes(None) == []


def test_headings_say_what_differs():
    several = [column("mlp"), column("mlp", protocol="dc", networks=3), column("mlp", learning_rate=0.1)]
    assert headings(several) == ["mlp, quick, 5 networks", "mlp, dc, 3 networks", "mlp, quick, 5 networks, rate 0.1"]
    assert headings([column("mlp"), column("mlp", data="letters")]) == ["mlp, on digits", "mlp, on letters"]


def test_what_stands_under_it():
    said = notes(TWO)
    assert said[0].startswith(
        "Test accuracy of fresh networks of each kind, mean ± std over networks; protocol 'quick'"
    )
    assert said[1] == "herding (mlp): not measured: few."
    everywhere = {**TWO, "rows": [{"name": "full data", "cells": [cell(0.9, note="slow"), cell(0.9, note="slow")]}]}
    assert notes(everywhere)[1:] == ["full data: slow."]


def test_the_report_has_it_only_if_it_is_told(make, provenance, tmp_path):
    known = {"history": [], "rows": [], "result": {}, "record": {}}
    pages = []
    for name, told in (("with", {"architectures": TWO}), ("without", {})):
        write_report(tmp_path / name, make(1, **provenance), **known, **told)
        pages.append((tmp_path / name / "report.html").read_text())
    assert "Other architectures" in pages[0] and "norm=&#39;&lt;b&gt;&#39;" in pages[0]
    assert "Other architectures" not in pages[1]
