"""The tables of results: what their figures are, their columns, and the commands of their rows."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Table:
    """A page of results.

    Attributes:
      about: what its figures are.
      columns: heading, key of a row's results, and how to show it: "%" (a share, mean ± std over seeds), "x" (mean ±
        std over seeds), "s" (mean seconds) or "course" (several shares, their means over seeds).
      rows: arguments of `jaxdd distill` or, if the first is one, of a script, by name.
    """

    about: str
    columns: tuple[tuple[str, str, str], ...]
    rows: dict[str, list[str]]


_KIP = ["--config=kip", "--evaluate=kernel"]
_MNIST = ["--config.data.name=mnist"]
_LONG = ["--config.data.validation=0.0", "--config.run.steps=80000", "--config.method.decay_every=10000"]
_CLIPPED = [
    "--config.data.validation=0.0",
    "--config.method.clip=2",
    "--config.run.steps=42000",
    "--config.method.decay_every=6000",
]
_FASHION = [
    "--config.data.name=fashion_mnist",
    "--evaluate=full",
    "--config.evaluation.protocol=linba",
    "--config.evaluation.networks=3",
]
_FREPO = [
    "--config=frepo",
    "--config.data.name=fashion_mnist",
    "--evaluate=full",
    "--config.evaluation.networks=3",
    "--config.evaluation.model=wide_convnet(width=32, norm='none')",
]
_ONE = ["--config.method.ipc=1"]
_SHORT = {
    "dm": [
        "--config=dm",
        "--config.method.model=convnet(width=32)",
        "--config.method.target_per_class=64",
        "--config.run.steps=150",
    ],
    "frepo": [
        "--config=frepo",
        "--config.data.name=fashion_mnist",
        "--config.method.model=wide_convnet(width=32)",
        "--config.execution.target_precision=default",
        "--config.evaluation.model=wide_convnet(width=32, norm='none')",
        "--config.run.steps=200",
        "--config.method.decay_steps=200",
    ],
    "rat_bptt": ["--config=rat_bptt", "--config.data.name=fashion_mnist", "--config.run.steps=25"],
}
_POISON = ["scripts/poison.py", "--data=mnist", "--attacked=0", "--target=1"]
TABLES = {
    "kip": Table(
        "Test accuracy in percent of the last iterate, mean ± std over seeds. Random real images are in the same "
        "label regime (learned: Label Solve under the same kernel). Seconds are of distilling, without "
        "compilation, on a shared machine.",
        (
            ("images", "num_images", "x"),
            ("kernel", "kernel_accuracy", "%"),
            ("random, kernel", "random_real_kernel_accuracy", "%"),
            ("networks", "accuracy_mean", "%"),
            ("random, networks", "random_real_mean", "%"),
            ("seconds", "seconds", "s"),
        ),
        {
            f"kip_{data}_{10 * ipc}": [*_KIP, f"--config.data.name={data}", f"--config.method.ipc={ipc}"]
            for data in ("fashion_mnist", "mnist", "cifar10")
            for ipc in (1, 10, 50)
        },
    ),
    "features": Table(
        "Test accuracy in percent of the last iterate. Networks: mean over networks, then mean ± std over seeds. "
        "Kernel: ridge regression on the features of these networks (FRePo), or of 32 random ones (RFAD). Random real "
        "images are treated the same way, their labels by a teacher (FRePo) or solved for under the kernel (RFAD). "
        "Seconds are of distilling, without compilation, on a shared machine.",
        (
            ("images", "num_images", "x"),
            ("updates", "steps", "x"),
            ("kernel", "kernel_accuracy", "%"),
            ("random, kernel", "random_real_kernel_accuracy", "%"),
            ("networks", "accuracy_mean", "%"),
            ("std over networks", "accuracy_std", "%"),
            ("random, networks", "random_real_mean", "%"),
            ("seconds", "seconds", "s"),
        ),
        {
            "frepo_fashion_mnist_10": [*_FREPO],
            "frepo_fashion_mnist_100": [
                *_FREPO,
                "--config.method.ipc=10",
                "--config.run.steps=1000",
                "--config.method.decay_steps=1000",
            ],
            "rcig_fashion_mnist_10": [
                "--config=rcig",
                "--config.data.name=fashion_mnist",
                "--evaluate=full",
                "--config.evaluation.networks=3",
                "--config.method.model=wide_convnet(width=32, norm='none')",
                "--config.run.steps=800",
            ],
            "rfad_fashion_mnist_10": [
                "--config=rfad",
                "--config.data.name=fashion_mnist",
                "--evaluate=kernel",
                "--config.evaluation.networks=2",
            ],
        },
    ),
    "meta": Table(
        "Test accuracy in percent of the last iterate: mean over networks, then mean ± std over seeds; beside it "
        "the std over networks, and random real images of each class that are treated the same way (where labels "
        "are learned, with those of a teacher of the same architecture). Course: accuracy on the batches of training "
        "data, in the tenths of the updates that end at a quarter, a half, three quarters and the end. Seconds are of "
        "distilling, without compilation, on a shared machine.",
        (
            ("images", "num_images", "x"),
            ("bits", "num_bits", "x"),
            ("updates", "steps", "x"),
            ("accuracy", "accuracy_mean", "%"),
            ("std over networks", "accuracy_std", "%"),
            ("course", "course", "course"),
            ("random real", "random_real_mean", "%"),
            ("std over networks", "random_real_std", "%"),
            ("seconds", "seconds", "s"),
        ),
        {
            "dd_fixed_mnist_10": ["--config=dd", *_MNIST],
            "dd_paper_mnist_10": [
                "--config=dd",
                *_MNIST,
                "--config.data.validation=0.0",
                "--config.method.target_batch=1024",
                "--config.method.decay_every=2360",
                "--config.run.steps=23600",
            ],
            "dd_long_mnist_10": ["--config=dd", *_MNIST, *_LONG],
            "dd_clipped_mnist_10": ["--config=dd", *_MNIST, *_CLIPPED],
            "soft_label_dd_mnist_10": ["--config=soft_label_dd", *_MNIST],
            "soft_label_dd_clipped_mnist_10": ["--config=soft_label_dd", *_MNIST, *_CLIPPED],
            "soft_label_dd_mnist_5": [
                "--config=soft_label_dd",
                *_MNIST,
                "--config.method.classes=5",
                "--config.run.steps=24000",
                "--config.method.decay_every=6000",
            ],
            "dd_random_mnist_100": ["--config=dd:random", *_MNIST, "--config.evaluation.networks=200"],
            "bptt_fashion_mnist_1": ["--config=bptt", *_FASHION],
            "linba_fashion_mnist_1": ["--config=linba", *_FASHION],
        },
    ),
    "windows": Table(
        "RaT-BPTT's random window beside truncated (last) and full backpropagation, all else equal. Test accuracy in "
        "percent of the last iterate: mean over networks, then mean ± std over seeds; beside it random real images of "
        "each class. Gradient norms are of the images, over the second half of the run. Seconds are of distilling, "
        "without compilation, on a shared machine.",
        (
            ("images", "num_images", "x"),
            ("accuracy", "accuracy_mean", "%"),
            ("std over networks", "accuracy_std", "%"),
            ("random real", "random_real_mean", "%"),
            ("gradient norm", "gradient_norm", "x"),
            ("its std", "gradient_norm_std", "x"),
            ("seconds", "seconds", "s"),
        ),
        {
            f"rat_bptt_fashion_mnist_{place}": [
                "--config=rat_bptt",
                *_FASHION,
                "--config.run.steps=100",
                "--config.run.log_every=1",
                f"--config.method.place={place}",
                *(["--config.method.window=60"] if place == "full" else []),
            ]
            for place in ("random", "last", "full")
        },
    ),
    "matching": Table(
        "Test accuracy in percent of the last iterate, on two CPU cores, most within a quarter of an hour: mean over "
        "networks, then mean ± std over seeds. Random real images and herded ones (of pixels) cost the same bits (IDC "
        "and NCFM render four images from each they store), have hard labels, and are trained on the same way. Seconds "
        "are of distilling, without compilation, on a shared machine.",
        (
            ("images", "num_images", "x"),
            ("updates", "steps", "x"),
            ("accuracy", "accuracy_mean", "%"),
            ("std over networks", "accuracy_std", "%"),
            ("random real", "random_real_mean", "%"),
            ("herding", "herding_mean", "%"),
            ("seconds", "seconds", "s"),
        ),
        {
            **{
                f"{method}_fashion_mnist_100": [f"--config={method}", "--evaluate=full"]
                for method in ("dc", "dsa", "idc", "dm", "cafe", "datadam", "ncfm", "mtt")
            },
            "dm_cifar10_100": [
                "--config=dm",
                "--config.data.name=cifar10",
                "--evaluate=full",
                "--config.run.steps=400",
            ],
            "dc_fashion_mnist_10": ["--config=dc", "--evaluate=full", *_ONE, "--config.method.init=real"],
            "idc_fashion_mnist_10": ["--config=idc", "--evaluate=full", *_ONE, "--config.method.learning_rate=0.01"],
        },
    ),
    "precision": Table(
        "The policies of precision float32 and bfloat16 (of distilling; networks are evaluated in float32), all else "
        "equal, in short runs. Test accuracy in percent of the last iterate: mean over networks, then mean ± std over "
        "seeds; beside it random real images. On a CPU with jaxdd-onednn; what an update costs is in "
        "docs/convolutions.md.",
        (
            ("images", "num_images", "x"),
            ("updates", "steps", "x"),
            ("accuracy", "accuracy_mean", "%"),
            ("std over networks", "accuracy_std", "%"),
            ("random real", "random_real_mean", "%"),
            ("kernel", "kernel_accuracy", "%"),
        ),
        {
            f"{method}_{precision}": [
                *short,
                "--evaluate=quick",
                "--config.evaluation.networks=2",
                f"--config.execution.precision={precision}",
            ]
            for method, short in _SHORT.items()
            for precision in ("float32", "bfloat16")
        },
    ),
    "audit": Table(
        "One step of gradient descent on 100 distilled images, given to ten trained networks that took no part in "
        "distilling them: the share of the attacked class's test images that are then taken for the target class, "
        "and what the accuracy on all other classes loses, in percent; mean ± std over seeds. `real`: as many real "
        "images, those of the attacked class labelled as the target, with the learned rate; `real, best rate`: "
        "with the multiple of it that succeeds most while the other classes lose less than ten points.",
        (
            ("images", "num_images", "x"),
            ("before", "success_before", "%"),
            ("success", "success", "%"),
            ("others lose", "others_drop", "%"),
            ("real", "real_success", "%"),
            ("others lose", "real_others_drop", "%"),
            ("real, harm 10", "real_harm_10_success", "%"),
            ("others lose", "real_harm_10_others_drop", "%"),
            ("real, same harm", "real_same_harm_success", "%"),
            ("others lose", "real_same_harm_others_drop", "%"),
            ("seconds", "seconds", "s"),
        ),
        {
            "poisoning_mnist_mlp": [*_POISON, "--model=mlp", "--networks=40", "--steps=1500"],
            "poisoning_mnist_lenet": [*_POISON, "--model=lenet", "--networks=30", "--steps=500"],
        },
    ),
}
ROWS = {name: (title, arguments) for title, table in TABLES.items() for name, arguments in table.rows.items()}
