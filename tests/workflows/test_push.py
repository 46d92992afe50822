"""What goes to a hub, and what stays; the hub is a stand-in."""

import fnmatch
import hashlib
import inspect
import json
import pathlib

import pytest

from jaxdd import workflows
from jaxdd.cli import main
from jaxdd.errors import JaxddError

PAGE = "https://hub.example/datasets/me/digits"


class Hub:
    """Records what is asked of it, and takes files as `huggingface_hub` does."""

    def __init__(self):
        self.made, self.files = [], {}

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        self.made.append((repo_id, repo_type, private, exist_ok))
        return PAGE

    def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns, commit_message):
        assert (repo_id, repo_type) == (self.made[-1][0], "dataset") and commit_message
        for path in pathlib.Path(folder_path).rglob("*"):
            name = path.relative_to(folder_path).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                self.files[name] = path.read_bytes()


@pytest.fixture(scope="module")
def run(config, tiny, tmp_path_factory):
    """A finished run, with what people and programs leave beside it."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAXDD_DATA_DIR", str(tiny))
        workflows.distill(config(), workdir, evaluate="none", command="jaxdd distill --workdir=run")
    for name in (".env", "a[1].txt", "checkpoints/README.md", "notes/README.md"):
        (workdir / name).parent.mkdir(exist_ok=True)
        (workdir / name).write_text("MINE")
    return workdir


def test_the_files_of_the_folder_go_and_no_folder(run):
    hub = Hub()
    pushed = workflows.push(run, "hub:me/digits", client=hub)
    assert hub.made == [("me/digits", "dataset", False, True)] and pushed.url == PAGE
    files = {path.name for path in run.iterdir() if path.is_file() and path.name != ".env"}
    assert set(hub.files) == set(pushed.files) == files
    assert {"distilled.safetensors", "README.md", "report.html", "results.json", "croissant.json", "a[1].txt"} <= files
    assert (
        hub.files["README.md"] != b"MINE"
        and {name: len(content) for name, content in hub.files.items()} == pushed.files
    )
    assert {"checkpoints/", "notes/", ".env"} <= set(pushed.stays)
    described = json.loads(hub.files["croissant.json"])
    assert described["url"] == PAGE and described["name"] == "digits" and described["creator"]["name"] == "me"
    hashes = {file["name"]: file["sha256"] for file in described["distribution"]}
    assert hashes == {n: hashlib.sha256(c).hexdigest() for n, c in hub.files.items() if n != "croissant.json"}
    assert described["description"].startswith("10 synthetic images")


def test_again_and_private(run):
    """Metadata of before are made anew."""
    (run / "croissant.json").write_text("old")
    hub = Hub()
    workflows.push(run, "hub:me/digits", client=hub, private=True)
    assert hub.made[0][2] is True and json.loads(hub.files["croissant.json"])["url"] == PAGE


def test_a_dry_run_asks_nobody_and_writes_nothing(run, capsys):
    (run / "croissant.json").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    hub = Hub()
    pushed = workflows.push(run, "hub:me/digits", client=hub, dry_run=True)
    assert not hub.made and not hub.files and pushed.url is None and pushed.files["croissant.json"] is None
    assert main(["push", str(run), "--to=hub:me/digits", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in pushed.files) and "made on the way  croissant.json" in said
    assert "stays  .env, checkpoints/, notes/" in said and "https://" not in said
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.parametrize(
    "to", ["me/digits", "hub:digits", "hub:me/", "hub:../x/y", "hub:me/a b", "s3://me/digits", "hub:.me/x"]
)
def test_other_places(to, run):
    with pytest.raises(JaxddError, match="sets are pushed to hub:USER/NAME, a data set of the Hugging Face hub, got "):
        workflows.push(run, to, client=Hub())


def test_what_is_no_finished_run(run, tmp_path, capsys):
    for needed in ("distilled.safetensors", "README.md", "results.json"):
        with pytest.raises(JaxddError, match=f"holds no {needed}: is its run finished"):
            workflows.push(tmp_path, "hub:me/digits", client=Hub())
        (tmp_path / needed).write_bytes((run / needed).read_bytes() if needed != "results.json" else b"[]")
    hub = Hub()
    with pytest.raises(JaxddError, match=r"results.json is not what a run has written"):
        workflows.push(tmp_path, "hub:me/digits", client=hub)
    assert not hub.made  # before anything is there
    assert main(["push", str(run)]) == 2
    assert "--to is missing: jaxdd push DIR --to=hub:USER/NAME." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("create_repo", "the hub did not make me/digits: 401"), ("upload_folder", "did not take the files of .*: 401")],
)
def test_what_the_hub_refuses_is_one_sentence(method, sentence, run, monkeypatch):
    def refuse(self, *arguments, **options):
        raise OSError("401\n\nUnauthorized")

    monkeypatch.setattr(Hub, method, refuse)
    with pytest.raises(JaxddError, match=sentence) as error:
        workflows.push(run, "hub:me/digits", client=Hub())
    assert "\n" not in str(error.value)


def test_without_the_extra_it_is_named(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(JaxddError, match=r"pushed by huggingface_hub: pip install 'jaxdd\[hub\]'"):
        workflows.push(run, "hub:me/digits")


def test_the_real_client_takes_what_the_stand_in_takes():
    hub = pytest.importorskip("huggingface_hub")
    for name in ("create_repo", "upload_folder"):
        asked = inspect.signature(getattr(Hub, name)).parameters
        assert set(asked) <= set(inspect.signature(getattr(hub.HfApi, name)).parameters)
