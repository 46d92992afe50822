"""Croissant metadata of a published set: JSON-LD by the vocabulary of MLCommons, version 1.0.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from jaxdd.report.facts import class_names, has_no_classes, source
from jaxdd.report.write import license_id
from jaxdd.synthetic import DistilledDataset

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
REQUIRED = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
"""What the specification asks of a data set; `conformsTo` is `dct:conformsTo` by the context."""

# As the specification has it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {
    "safetensors": "application/octet-stream",
    "md": "text/markdown",
    "html": "text/html",
    "png": "image/png",
    "json": "application/json",
    "jsonl": "application/jsonlines",
    "csv": "text/csv",
    "py": "text/x-python",
}


def croissant(
    dataset: DistilledDataset,
    *,
    name: str,
    description: str,
    url: str,
    creator: str,
    published: datetime.date,
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """What a published set says of itself, as JSON-LD.

    Args:
      name: of the data set where it is published.
      description: a sentence or two.
      url: its page there; its files are `url/resolve/main/NAME`.
      creator: who publishes it.
      published: when.
      files: their content by name.
    """
    data = source(dataset)
    described: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": description,
        "license": _license(str(data.get("license") or "unknown")),
        "url": url,
        "creator": {"@type": "sc:Organization", "name": creator},
        "datePublished": published.isoformat(),
        "keywords": ["dataset distillation", "jaxdd", *map(str, filter(None, [dataset.header.get("method")]))],
        "distribution": [_file(name, content, url) for name, content in files.items()],
    }
    if data.get("name"):
        hashed = f", SHA-256 of its arrays {data['source_hash']}" if data.get("source_hash") else ""
        described["isBasedOn"] = f"{data['name']}{hashed}"
    if not has_no_classes(dataset):
        described["recordSet"] = [_classes(class_names(dataset))]
    return described


def _license(text: str) -> str:
    """The page of a licence that SPDX knows, else what the data say."""
    known = license_id(text)
    return text if known in ("unknown", "other") else f"https://spdx.org/licenses/{_spdx(known)}.html"


def _spdx(known: str) -> str:
    return {"mit": "MIT", "apache-2.0": "Apache-2.0"}.get(known, known.upper().replace("-CLAUSE", "-Clause"))


def _file(name: str, content: bytes, url: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": f"{url}/resolve/main/{name}",
        "contentSize": f"{len(content)} B",
        "encodingFormat": _FORMATS.get(name.rpartition(".")[2], "application/octet-stream"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _classes(names: list[str]) -> dict[str, Any]:
    """The numbers of the classes with their names, in the metadata itself."""
    fields = {"label": "sc:Integer", "name": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [
            {"@type": "cr:Field", "@id": f"classes/{field}", "name": f"classes/{field}", "dataType": kind}
            for field, kind in fields.items()
        ],
        "data": [{"classes/label": label, "classes/name": name} for label, name in enumerate(names)],
    }
