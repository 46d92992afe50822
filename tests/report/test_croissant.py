"""Croissant metadata have what the specification asks for, and what the set says."""

import datetime
import hashlib
import json

import pytest

from jaxdd.report import croissant
from jaxdd.report.croissant import CONFORMS_TO, REQUIRED

FILES = {"distilled.safetensors": b"a set", "README.md": b"# A card", "strange.bin": b""}
PAGE = "https://hub.example/datasets/me/digits"


def described(dataset, **changes):
    given = {"name": "digits", "description": "Ten digits.", "url": PAGE, "creator": "me", "files": FILES, **changes}
    return croissant(dataset, published=datetime.date(2026, 2, 3), **given)


def test_required_properties_are_there_and_it_is_json(make, provenance):
    found = described(make(**provenance))
    assert [found[name] for name in REQUIRED] and all(found[name] for name in REQUIRED)
    assert found["@type"] == "sc:Dataset" and found["conformsTo"] == CONFORMS_TO
    assert found["datePublished"] == "2026-02-03" and found["creator"]["name"] == "me"
    assert found["license"] == "https://spdx.org/licenses/CC-BY-SA-3.0.html"
    assert provenance["data"]["source_hash"] in found["isBasedOn"] and "kip" in found["keywords"]
    assert json.loads(json.dumps(found)) == found
    prefixes = {name for name, value in found["@context"].items() if str(value).startswith("http")}
    assert {"cr", "dct", "sc"} <= prefixes  # all that is used below is defined


def test_every_file_is_an_object_with_its_hash_and_its_place(make):
    files = described(make())["distribution"]
    assert [file["@id"] for file in files] == list(FILES)
    for file, content in zip(files, FILES.values(), strict=True):
        assert file["@type"] == "cr:FileObject" and file["contentUrl"] == f"{PAGE}/resolve/main/{file['name']}"
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
    assert [file["encodingFormat"] for file in files][1:] == ["text/markdown", "application/octet-stream"]


def test_classes_are_an_enumeration(make, provenance):
    (classes,) = described(make(**provenance))["recordSet"]
    fields = [field["@id"] for field in classes["field"]]
    assert classes["key"]["@id"] in fields and all(set(row) == set(fields) for row in classes["data"])
    assert classes["data"][3] == {"classes/label": 3, "classes/name": "3"} and len(classes["data"]) == 10


@pytest.mark.parametrize(
    ("license", "said"),
    [
        ("MIT (Zalando SE)", "https://spdx.org/licenses/MIT.html"),
        ("Apache-2.0", "https://spdx.org/licenses/Apache-2.0.html"),
        ("BSD-3-Clause", "https://spdx.org/licenses/BSD-3-Clause.html"),
        ("cc0-1.0", "https://spdx.org/licenses/CC0-1.0.html"),
        ("ask my aunt", "ask my aunt"),
        ("", "unknown"),
    ],
)
def test_licences(license, said, make):
    assert described(make(data={"license": license}))["license"] == said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what it is made of
def test_the_reference_reads_it(make, provenance):
    reference = pytest.importorskip("mlcroissant")
    dataset = reference.Dataset(jsonld=described(make(**provenance)))
    assert not dataset.metadata.ctx.issues.errors
    assert [row["classes/label"] for row in dataset.records("classes")] == list(range(10))
