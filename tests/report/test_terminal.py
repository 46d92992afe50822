"""Tables in the terminal hold the same numbers, and square brackets are text."""

from rich.console import Console

from jaxdd.report import comparison_table, describe


def printed(renderable, width=160):
    console = Console(width=width, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    console.file.close()
    return console.export_text().replace("\N{NO-BREAK SPACE}", " ")


def test_comparison_leaves_out_empty_columns():
    rows = [
        {"name": "distilled [bold]", "kernel_accuracy": 0.8234, "num_images": 1000, "bits": 12345},
        {"name": "random real", "kernel_accuracy": 0.4, "num_images": 1000},
    ]
    text = printed(comparison_table(rows, "kip [x]"))
    for expected in ("kip [x]", "distilled [bold]", "82.3 %", "40.0 %", "1,000", "12,345"):
        assert expected in text
    assert "network accuracy" not in text and "trained" not in text


def test_a_narrow_terminal_has_the_rest_beneath():
    rates = {"distilled": 0.01, "random real, hard labels": 0.03, "herding": 0.01}
    rows = [
        {"name": name, "accuracy_mean": 0.9, "accuracy_std": 0.01, "num_images": 10, "bits": 250_920, "networks": 3,
         "label_regime": "hard", "model": "convnet(width=16)", "protocol": "dc", "learning_rate": rate}
        for name, rate in rates.items()
    ]  # fmt: skip
    wide, usual, narrow = (printed(comparison_table(rows, "idc"), width) for width in (160, 80, 40))
    assert "trained" in wide.splitlines()[2] and ":" not in wide
    assert "trained of distilled, herding: 3 × convnet(width=16), dc, rate 0.01" in usual and "250,920" in usual
    assert "labels: hard" in narrow and "bits: 250,920" in narrow
    for text, width in ((wide, 160), (usual, 80), (narrow, 40)):
        lines = text.splitlines()
        assert max(map(len, lines)) <= width
        assert sum("90.0 ± 1.0 %" in line for line in lines) == 3  # no cell is folded


def test_describe_tells_everything(make, provenance):
    text = printed(describe(make(2, **provenance)))
    for expected in ("20, each 28 × 28 × 1", "float32 (20, 28, 28, 1)", "float32 (20, 10)", "centred", "standardize",
                     "501,760 bits (61.2 KiB)", "mnist_5k", "CC BY-SA", provenance["data"]["source_hash"], "method.ipc",
                     "0.1.0"):  # fmt: skip
        assert expected in text, expected


def test_describe_of_a_small_header(make):
    dataset = make(1, soft=False)
    dataset.header.clear()
    text = printed(describe(dataset), width=60)
    assert "10, each 28 × 28 × 1" in text and "Provenance" not in text and "None" not in text
