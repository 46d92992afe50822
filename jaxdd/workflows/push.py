"""Publish the directory of a run: its files, the data card among them, and Croissant metadata."""

from __future__ import annotations

import dataclasses
import datetime
import glob
import importlib
import json
import os
import pathlib
import re
from typing import Any, Protocol

from jaxdd import report
from jaxdd._files import disk_errors, expanded, write_atomically
from jaxdd.data.streaming import refusing
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.workflows.outcome import FILE, RESULTS

CARD, METADATA = "README.md", "croissant.json"
_PLACE = re.compile(r"hub:(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)")


class Client(Protocol):
    """What is asked of a hub: two methods of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> Any:
        """Make a repository if there is none; its page, as text."""

    def upload_folder(
        self, *, repo_id: str, repo_type: str, folder_path: str, allow_patterns: list[str], commit_message: str
    ) -> Any:
        """Upload the files of these names in one commit."""


@dataclasses.dataclass(frozen=True)
class Pushed:
    """What `push` has done, or would do.

    Attributes:
      files: sizes in bytes by name, of what goes; that of the metadata is None where it is not written yet.
      stays: names of what lies beside them and does not go: folders, and what is hidden.
      url: the page; None if nothing was uploaded.
    """

    files: dict[str, int | None]
    stays: list[str]
    url: str | None = None


def push(
    workdir: str | os.PathLike,
    to: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    client: Client | None = None,
) -> Pushed:
    """Publish a run's directory as a data set of the Hugging Face hub.

    All files of the directory go, but no folders, among them checkpoints, and nothing hidden. `results.json` and the
    report hold the command as it was typed.

    Args:
      workdir: of a finished run.
      to: `hub:USER/NAME`; made if there is none.
      private: if it is made, for its owner alone.
      dry_run: only say what would go; nothing is written, and nobody asked.
      client: by default `huggingface_hub.HfApi()`, which finds the token itself: nothing here looks at it.

    Raises:
      JaxddError: for a directory without a finished run, another place, or what the hub refuses, in a sentence.
    """
    place = _PLACE.fullmatch(to)
    if place is None:
        raise JaxddError(f"sets are pushed to hub:USER/NAME, a data set of the Hugging Face hub, got {to!r}.")
    folder, repo = expanded(workdir), f"{place['owner']}/{place['name']}"
    for needed in (FILE, CARD, RESULTS):
        if not (folder / needed).is_file():
            raise JaxddError(f"{workdir} holds no {needed}: is its run finished?")
    names, stays = _sorted_out(folder)
    if dry_run:
        sizes: dict[str, int | None] = {name: (folder / name).stat().st_size for name in names}
        return Pushed({**sizes, METADATA: None}, stays)
    with disk_errors(folder):
        files = {name: (folder / name).read_bytes() for name in names}
    dataset = DistilledDataset.from_bytes(files[FILE], str(folder / FILE))
    with refusing(f"{folder / RESULTS} is not what a run has written"):
        description = report.summary(dataset, json.loads(files[RESULTS])["rows"])
    client = client or _hub()
    with refusing(f"the hub did not make {repo}"):
        url = str(client.create_repo(repo, repo_type="dataset", private=private, exist_ok=True))
    described = report.croissant(
        dataset,
        name=place["name"],
        description=description,
        url=url,
        creator=place["owner"],
        published=datetime.datetime.now(datetime.UTC).date(),
        files=files,
    )
    metadata = json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n"
    write_atomically(folder / METADATA, metadata)
    with refusing(f"the hub did not take the files of {workdir} into {repo}"):
        client.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=str(folder),
            allow_patterns=[glob.escape(name) for name in (*names, METADATA)],
            commit_message=description.partition(":")[0],
        )
    return Pushed({name: len(content) for name, content in {**files, METADATA: metadata}.items()}, stays, url)


def _sorted_out(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """The names of the files that go, but for the metadata, which are made anew, and of what stays."""
    with disk_errors(folder):
        entries = sorted(folder.iterdir())
    goes = [each.name for each in entries if each.is_file() and not each.name.startswith(".")]
    stays = [each.name + "/" * each.is_dir() for each in entries if each.name not in goes]
    return [name for name in goes if name != METADATA], stays


def _hub() -> Client:
    try:
        return importlib.import_module("huggingface_hub").HfApi()
    except ImportError as error:
        raise JaxddError("sets are pushed by huggingface_hub: pip install 'jaxdd[hub]'.") from error
