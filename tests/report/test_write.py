"""The report is one file that loads nothing, says what it is told, and no more."""

import base64
import dataclasses
import html
import html.parser
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdd.errors import JaxddError
from jaxdd.report import Growth, write_report
from jaxdd.report.facts import duration, flattened, percent, storage
from jaxdd.report.pictures import to_8_bit
from jaxdd.report.write import license_id
from jaxdd.types import Examples

ROWS = [
    {"name": "distilled", "num_images": 20, "label_regime": "learned", "kernel_accuracy": 0.8234, "bits": 501_760,
     "accuracy_mean": 0.7851, "accuracy_std": 0.0042, "networks": 5, "model": "mlp", "protocol": "quick",
     "learning_rate": 0.003},
    {"name": "random real", "num_images": 20, "kernel_accuracy": None, "accuracy_mean": 0.5, "accuracy_std": 0.01},
]  # fmt: skip
RESULT = {"steps": 300, "seconds": 5.25, "best_step": 270, "devices": 1, "resumed_from": 0, "full_bits": 50_176_000,
          "accuracy_mean": 0.7851}  # fmt: skip
HISTORY = [{"step": 1, "split": "train", "loss": 0.5}, {"step": 2, "split": "train", "loss": 0.4}]
COMMAND = "jaxdd distill --config=kip --config.data.name='a & b'"


def write(directory, dataset, history=HISTORY, rows=ROWS, result=RESULT, command=COMMAND, **beside):
    told = {"history": history, "rows": rows, "result": result, "record": {"command": command}}
    paths = write_report(directory, dataset, **told, **beside)
    assert [path.name for path in paths] == ["images.png", "report.html", "README.md", "load.py", "train_torch.py"]
    assert sorted(paths) == sorted(directory.iterdir())
    return paths[0].read_bytes(), paths[1].read_text(), paths[2].read_text()


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and text without style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._style = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._style = tag == "style"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self.text += data


def test_the_report_says_what_it_is_told(make, provenance, tmp_path):
    _, report, _ = write(tmp_path / "new", make(2, **provenance))
    page = Page(report)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for expected in ("mnist_5k in 20 images", "2 per class", "82.3 %", "78.5 ± 0.4 %", "5 × mlp, quick, rate 0.003",
                     "501,760 bits (61.2 KiB)", "100 times as much", COMMAND, "method.ipc", "5.2 s", "step 300",
                     "step 270", provenance["data"]["source_hash"], "CC BY-SA 3.0", "jaxlib", "python", "10.0 %",
                     "ntk: depth 1, ridge 1e-06", "on which nothing was selected"):  # fmt: skip
        assert expected in text, expected
    assert not re.search(r"\b(None|nan)\b", text)


def test_the_report_loads_nothing(make, provenance, tmp_path):
    _, report, _ = write(tmp_path, make(2, **provenance))
    page = Page(report)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            if (tag, name) != ("a", "href"):  # what is opened by hand is not loaded
                assert re.match(r"data:image/png;base64,|#", attributes.get(name) or "#"), (tag, attributes)
    assert "@import" not in report and not re.search(r"url\((?!#)", report)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_links_lead_to_files_that_are_there(make, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_report(tmp_path, make(1), history=[], rows=[], result={}, record={})
    page = Page((tmp_path / "report.html").read_text())
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["train_torch.py", "load.py", "metrics.jsonl", "images.png", "README.md"]
    assert all((tmp_path / link).exists() for link in links)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def shown(report):
    """The pictures of a page in order, with what they stand for."""
    found = [attributes for tag, attributes in Page(report).tags if tag == "img"]
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(a["src"].partition(",")[2])))) for a in found]
    return [(attributes["alt"], picture) for attributes, picture in zip(found, pixels, strict=True)]


def test_real_images_stand_beside_those_of_their_class(make, mnist, tmp_path):
    labels = np.array([3, 0, 3])
    rows = [np.flatnonzero(mnist.train.labels == label)[5 + k] for k, label in enumerate(labels)]
    real = Examples(mnist.train.pixels()[rows], labels)
    pictures = shown(write(tmp_path, make(1), real=real)[1])
    assert [name for name, _ in pictures][:3] == ["0", "0, real", "1"] and len(pictures) == 13
    beside = [picture for name, picture in pictures if name == "3, real"]
    np.testing.assert_array_equal(beside, mnist.train.images[[rows[0], rows[2]], ..., 0])
    assert "the same ones beside every set" in (tmp_path / "report.html").read_text()


def test_how_pictures_grew(make, tmp_path):
    dataset = make(1)
    steps = np.stack([0.5 * dataset.images[:2], dataset.images[:2]])
    report = write(tmp_path, dataset, growth=Growth((0, 1000), steps, ("0", "1")))[1]
    grown = [pair for pair in shown(report) if "step" in pair[0]]
    names = [f"{name} at step {step}" for name in "01" for step in ("0", "1,000")]
    assert [name for name, _ in grown] == names and "How they grew" in report
    for (_, half), (_, whole) in (grown[:2], grown[2:]):
        assert np.abs(2.0 * half - whole).max() <= 1 and half.max() < whole.max()
    assert "How they grew" not in write(tmp_path, dataset)[1]


def test_the_report_holds_the_images_themselves(make, provenance, tmp_path):
    dataset = make(2, noise=0.3, **provenance)
    picture, report, _ = write(tmp_path, dataset)
    sources = [attributes["src"] for tag, attributes in Page(report).tags if tag == "img"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))) for src in sources]
    np.testing.assert_array_equal(np.stack(shown), to_8_bit(dataset.pixels(), (0, 1))[..., 0])
    assert re.search(r"Of the values [1-9]\d\.\d % lie outside and are clipped", report)
    assert "Black is 0 and white is 1, as in the real images" in report
    assert Image.open(io.BytesIO(picture)).width > 500


def test_raised_contrast_is_admitted(make, tmp_path):
    dataset = make(2)
    dataset.images[:] = 0.25 * dataset.images
    report = write(tmp_path, dataset)[1]
    assert re.search(r"Contrast is raised: black is 0 and white is 0\.2\d+ in these pictures, 0 and 1 in the", report)


def test_hidden_images_are_counted(make, tmp_path):
    assert write(tmp_path, make(23))[1].count("and 3 more") == 10


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "a|b\nc `d` *e* [f](http://g)", '"><img src=x>'])
def test_names_from_outside_stay_text(make, provenance, tmp_path, evil):
    names = [evil, *map(str, range(1, 10))]
    header = provenance | {"data": provenance["data"] | {"class_names": names, "name": evil, "license": evil}}
    header["config"] = {evil: {evil: evil}}
    _, report, card = write(tmp_path, make(2, **header), rows=[ROWS[0] | {"model": evil}], command=evil)
    page = Page(report)
    assert evil.split("\n")[0] in page.text
    assert not [tag for tag, attributes in page.tags if tag == "script" or attributes.get("src") == "x"]
    card = card.split("---\n", 2)[2].partition("Made with:")[0]
    assert not re.search(r"(?<!\\)<(script|img)|(?<!\\)\]\(http", card)
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 8) for line in tables)


def test_a_command_cannot_leave_its_fence(make, tmp_path):
    card = write(tmp_path, make(2), command="jaxdd ````\n# Title")[2]
    fence = re.search(r"Made with:\n\n(`+)sh\n", card).group(1)
    assert card.count(f"{fence}\n") == 1 and len(fence) == 5


def test_a_small_header_is_enough(make, tmp_path):
    dataset = make(2)
    for key in ("label_convention", "label_regime", "decoder", "num_bits"):
        del dataset.header[key]
    _, report, card = write(tmp_path, dataset, history=[], rows=[], result={}, command="")
    page = Page(report)
    headings = {tag for tag, _ in page.tags}
    assert "thead" not in headings and "pre" not in headings
    assert "20 images" in page.text and "None" not in page.text + card and "Accuracy" not in page.text
    assert "license: unknown" in card


@pytest.mark.parametrize("soft", [False, True])
def test_the_card(make, provenance, tmp_path, soft):
    _, _, card = write(tmp_path, make(2, soft=soft, **provenance))
    _, front, body = card.split("---\n", 2)
    front = dict(line.split(": ", 1) for line in front.splitlines() if ": " in line)
    assert front["license"] == "cc-by-sa-3.0" and json.loads(front["pretty_name"]) == "mnist_5k in 20 images"
    assert "- image-classification\n" in card and "- n<1K\n" in card
    for package in ("numpy", "flax", "torch"):
        assert f"from safetensors.{package} import load_file" in body
    assert "| **distilled** | **82.3 %** | **78.5 ± 0.4 %** |" in body and "| random real | – | 50.0 ± 1.0 % |" in body
    assert ("Labels are centred" in body) == soft
    assert "\n\n\n" not in body


def test_the_cards_snippets_run(make, provenance, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    dataset = make(2, **provenance)
    _, _, card = write(tmp_path, dataset)
    dataset.write(tmp_path / "distilled.safetensors")
    monkeypatch.chdir(tmp_path)
    snippets = [code for code in re.findall(r"```python\n(.*?)```", card, re.S) if "torch" not in code]
    assert len(snippets) == 3
    for code in snippets:
        names = {}
        exec(code, names)
        expected = dataset.transform.apply(dataset.images) if "dataset" in names else dataset.images
        np.testing.assert_array_equal(names["images"], expected)
        np.testing.assert_array_equal(names["labels"], dataset.labels)


def test_features_are_not_called_classes(make, provenance, tmp_path):
    dataset = make(2, **provenance)
    header = {**dataset.header, "label_convention": "features"}
    features = np.arange(60, dtype=np.float32).reshape(20, 3)
    _, report, card = write(tmp_path, dataclasses.replace(dataset, labels=features, header=header))
    text = Page(report).text
    assert "targets of an encoder" in text and "per class" not in text + card
    assert "train with squared error against them" in card and "largest entry" not in card


def test_the_card_says_how_uint8_images_are_read(make, provenance, tmp_path, monkeypatch):
    dataset = make(2, **provenance)
    dataset = dataclasses.replace(dataset, images=np.rint(255 * dataset.images).astype(np.uint8))
    _, _, card = write(tmp_path, dataset)
    assert "Images are uint8\n" in card and "divide them by 255 first" in card
    dataset.write(tmp_path / "distilled.safetensors")
    monkeypatch.chdir(tmp_path)
    code = next(code for code in re.findall(r"```python\n(.*?)```", card, re.S) if "import jaxdd" in code)
    names = {}
    exec(code, names)
    np.testing.assert_array_equal(names["images"], dataset.transform.apply(dataset.images / np.float32(255)))


def test_the_iterate_that_was_selected_says_so(make, provenance, tmp_path):
    report = write(tmp_path, make(2, **provenance, selected_on="validation", step=120))[1]
    assert "(step 120) that was best on validation data" in report and "last iterate (" not in report


def test_learned_labels_that_change_class_are_admitted(make, provenance, tmp_path):
    dataset = make(2, **provenance)
    assert "(2 per class)" in write(tmp_path, dataset)[1]
    dataset.labels[0] = dataset.labels[-1]
    assert "(2 per class on average)" in write(tmp_path, dataset)[1]


def test_without_matplotlib(make, tmp_path, monkeypatch):
    assert "jaxdd[viz]" not in write(tmp_path, make(2))[1]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = write(tmp_path, make(2))[1]
    assert "pip install 'jaxdd[viz]'" in Page(report).text and "<svg" not in report


def test_equal_reports_are_equal_bytes(make, provenance, tmp_path):
    assert write(tmp_path / "a", make(2, **provenance)) == write(tmp_path / "b", make(2, **provenance))


def test_a_directory_that_is_a_file(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxddError, match="a file stands where a directory should be"):
        write_report(tmp_path / "file", make(1), history=[], rows=[], result={}, record={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT (Fashion-MNIST, Zalando SE)", "mit"),
        ("CC BY-SA 3.0 (MNIST, Y. LeCun)", "cc-by-sa-3.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("unknown", "unknown"),
        ("no licence stated (CIFAR-10)", "unknown"),
        ("mitigated", "other"),
        ("for research only", "other"),
    ],
)
def test_licences_by_the_hubs_names(text, expected):
    assert license_id(text) == expected


def test_numbers_in_words():
    assert percent(0.82345, 0.004) == "82.3\xa0±\xa00.4\xa0%" and percent(None) == percent(float("nan")) == ""
    assert storage(8 * 1024) == "8,192 bits (1.0 KiB)" and storage(8 * 1024**3 * 3) == "25,769,803,776 bits (3.0 GiB)"
    assert storage(None) == storage(0) == ""
    assert [duration(s) for s in (5.17, 119, 600, 9000)] == ["5.2 s", "119.0 s", "10 min", "2 h 30 min"]
    assert flattened({"a": {"b": None, "c": {}}, "d": [1, 2.5]}) == [("a.b", "none"), ("a.c", ""), ("d", "1, 2.5")]
