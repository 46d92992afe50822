"""The tables of results: what their figures are, their columns, and the commands of their rows."""

from __future__ import annotations

import dataclasses

# Of each key of a row's results its heading, and how to show it: "%" (a share, mean ± std over seeds), "x" (mean ± std
# over seeds), "s" (mean seconds) or "course" (several shares, their means over seeds).
COLUMNS = {
    "num_images": ("images", "x"),
    "kernel_accuracy": ("kernel", "%"),
    "random_real_kernel_accuracy": ("random, kernel", "%"),
    "accuracy_mean": ("accuracy", "%"),
    "random_real_mean": ("random real", "%"),
    "seconds": ("seconds", "s"),
    "steps": ("updates", "x"),
    "accuracy_std": ("std over networks", "%"),
    "num_bits": ("bits", "x"),
    "course": ("course", "course"),
    "random_real_std": ("std over networks", "%"),
    "gradient_norm": ("gradient norm", "x"),
    "gradient_norm_std": ("its std", "x"),
    "herding_mean": ("herding", "%"),
    "probe_mean": ("linear probe", "%"),
    "random_real_probe_mean": ("random real pairs", "%"),
    "random_initialisation_probe_mean": ("random initialisation", "%"),
    "encoder_probe_mean": ("encoder", "%"),
    "random": ("random", "%"),
    "graph_cut": ("graph cut", "%"),
    "dq": ("DQ", "%"),
    "adq": ("adaptive DQ", "%"),
    "dq_over_graph_cut": ("DQ over graph cut", "%"),
    "dq_over_random": ("DQ over random", "%"),
    "least_salient_costs": ("least salient, filled in", "%"),
    "least_salient_black_costs": ("least salient, black", "%"),
    "most_salient_costs": ("most salient, filled in", "%"),
    "chance_costs": ("by chance, filled in", "%"),
    "chance_black_costs": ("by chance, black", "%"),
    "bits": ("bits", "x"),
    "bits_without_inpainter": ("without inpainter", "x"),
    "bits_whole": ("of whole images", "x"),
    "teacher_error": ("teacher wrong", "%"),
    "start": ("first labels alone", "%"),
    "entropy": ("entropy", "%"),
    "margin": ("margin", "%"),
    "badge": ("BADGE", "%"),
    "k_center": ("k-center", "%"),
    "pcoreset": ("PCoreSet", "%"),
    "robust": ("robust", "%"),
    "random_wrong": ("wrong: random", "%"),
    "margin_wrong": ("wrong: margin", "%"),
    "robust_wrong": ("wrong: robust", "%"),
    "random_late": ("rounds 3 to 5: random", "%"),
    "k_center_late": ("k-center", "%"),
    "pcoreset_late": ("PCoreSet", "%"),
    "success_before": ("before", "%"),
    "success": ("success", "%"),
    "others_drop": ("others lose", "%"),
    "real_success": ("real", "%"),
    "real_others_drop": ("others lose", "%"),
    "real_harm_10_success": ("real, harm 10", "%"),
    "real_harm_10_others_drop": ("others lose", "%"),
    "real_same_harm_success": ("real, same harm", "%"),
    "real_same_harm_others_drop": ("others lose", "%"),
    "visits": ("visits", "x"),
    "full_accuracy": ("all data", "%"),
    "without_accuracy": ("RS2 without replacement", "%"),
    "with_accuracy": ("RS2 with replacement", "%"),
    "static_accuracy": ("static, random", "%"),
    "herding_accuracy": ("static, herding", "%"),
    "easy_accuracy": ("static, easy by EL2N", "%"),
    "infobatch_accuracy": ("InfoBatch", "%"),
    "infobatch_visits": ("its visits", "s"),
    "with_cpu_seconds": ("CPU-seconds: RS2", "x"),
    "herding_cpu_seconds": ("herding", "x"),
    "easy_cpu_seconds": ("EL2N", "x"),
    "infobatch_cpu_seconds": ("InfoBatch", "x"),
    "teacher_accuracy": ("teacher", "%"),
    **{f"share_{share}": (f"a = {share / 100:g}", "%") for share in (0, 25, 50, 75, 100)},
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A page of results.

    Attributes:
      about: what its figures are.
      columns: keys of `COLUMNS`, with a space between; with `:HEADING` (underscores are spaces) where it has another.
      rows: arguments of `jaxdd distill` or, if the first is one, of a script, by name.
      page: where it stands, with others, under a heading of its own; a page of its own by default.
      below: what stands below it, Markdown.
    """

    about: str
    columns: str
    rows: dict[str, list[str]]
    page: str | None = None
    below: str = ""

    def shown(self) -> list[tuple[str, str, str]]:
        """Heading, key and kind of each column."""
        found = []
        for column in self.columns.split():
            key, _, heading = column.partition(":")
            found.append((heading.replace("_", " ") or COLUMNS[key][0], key, COLUMNS[key][1]))
        return found


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
_HUNDRED = [*_FASHION, "--config.run.steps=100", "--config.run.log_every=1"]
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
_SRE2L = ["--config=sre2l", "--config.data.name=cifar10", "--evaluate=full", "--config.evaluation.networks=1"]
_RS2 = ["scripts/repeated_sampling.py", "--data=mnist_5k"]
_KNOWLEDGE = ["scripts/knowledge_in_pruning.py", "--data=fashion_mnist"]
_SHARES = (0, 25, 50, 75, 100)
_POISON = ["scripts/poison.py", "--data=mnist", "--attacked=0", "--target=1"]
TABLES = {
    "kip": Table(
        "Test accuracy in percent of the last iterate, mean ± std over seeds. Random real images are in the same "
        "label regime (learned: Label Solve under the same kernel). Seconds are of distilling, without "
        "compilation, on a shared machine.",
        "num_images kernel_accuracy random_real_kernel_accuracy accuracy_mean:networks "
        "random_real_mean:random,_networks seconds",
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
        "num_images steps kernel_accuracy random_real_kernel_accuracy accuracy_mean:networks accuracy_std "
        "random_real_mean:random,_networks seconds",
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
        "num_images num_bits steps accuracy_mean accuracy_std course random_real_mean random_real_std seconds",
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
        "RaT-BPTT's random window beside truncated (last) and full backpropagation, all else equal: 15 of 60 steps. "
        "AT-BPTT's have 7 to 13 steps; beside them random ones of 15 (longer) and of 10 (short), with as many updates. "
        "Test accuracy in percent of the last iterate: mean over networks, then mean ± std over seeds; beside it "
        "random real images of each class. Gradient norms are of the images, over the second half of the run. Seconds "
        "are of distilling, without compilation, on a shared machine.",
        "num_images steps accuracy_mean accuracy_std random_real_mean gradient_norm gradient_norm_std seconds",
        {
            **{
                f"rat_bptt_fashion_mnist_{place}": [
                    "--config=rat_bptt",
                    *_HUNDRED,
                    f"--config.method.place={place}",
                    *(["--config.method.window=60"] if place == "full" else []),
                ]
                for place in ("random", "last", "full")
            },
            "rat_bptt_fashion_mnist_longer": ["--config=rat_bptt", *_FASHION, "--config.run.log_every=1"],
            "rat_bptt_fashion_mnist_short": [
                *("--config=rat_bptt", *_FASHION, "--config.run.log_every=1", "--config.method.window=10"),
            ],
            "at_bptt_fashion_mnist_longer": ["--config=at_bptt", *_FASHION, "--config.run.log_every=1"],
            "at_bptt_fashion_mnist_first": [
                *("--config=at_bptt", *_FASHION, "--config.run.log_every=1", "--config.method.smoothing=0.0"),
            ],
        },
        below="In AT-BPTT's run the second stage began at update 101; the third, whose 7 steps mostly lie late, at\n"
        "171. Without smoothing (first), which is the rule of its authors' code, the first stage never ended:\n"
        "accuracies of windows that end at other steps rise and fall by more than it waits for. 8 of these 300\n"
        "updates, all with windows from the first step on, had gradients longer than 5, one of 351. Rows of 100\n"
        "updates are older: compare within each length.",
    ),
    "matching": Table(
        "Test accuracy in percent of the last iterate, on two CPU cores, most within a quarter of an hour: mean over "
        "networks, then mean ± std over seeds. Random real images and herded ones (of pixels) cost the same bits (IDC "
        "and NCFM render four images from each they store), have hard labels, and are trained on the same way. Seconds "
        "are of distilling, without compilation, on a shared machine.",
        "num_images steps accuracy_mean accuracy_std random_real_mean herding_mean seconds",
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
            "mtt_fashion_mnist_10": ["--config=mtt", "--evaluate=full", *_ONE, "--config.run.steps=300"],
            "dc_fashion_mnist_10": ["--config=dc", "--evaluate=full", *_ONE, "--config.method.init=real"],
            "idc_fashion_mnist_10": ["--config=idc", "--evaluate=full", *_ONE, "--config.method.learning_rate=0.01"],
        },
    ),
    "decoupled": Table(
        "Test accuracy in percent of one network that is trained on the images as their teacher labels each view of "
        "them (a ConvNet of width 32 with batch normalisation, as the teacher is), on two CPU cores. `ce`: recovered "
        "by cross-entropy alone. `noise`: the images that recovery begins with. Random real images are labelled and "
        "trained on in the same way. The bits are nearly all the teacher's. Seconds are of recovery, without the "
        "teacher and without compilation, on a shared machine.",
        "num_images num_bits steps accuracy_mean random_real_mean seconds",
        {
            "sre2l_cifar10_100": _SRE2L,
            "sre2l_ce_cifar10_100": [*_SRE2L, "--config.method.statistics_weight=0"],
            "sre2l_noise_cifar10_100": [*_SRE2L, "--config.method.learning_rate=1e-12"],
        },
    ),
    "quantisation": Table(
        "Dataset Quantization on scikit-learn's digits (8x8 pixels, 1,200 to choose from, 597 for the test, the split "
        "by the seed), 20 of each class by their pixels: test accuracy in percent of logistic regression, mean ± std "
        "over splits; what draws is a mean over 20 draws. Then what it costs, in points, to drop a quarter of the 2x2 "
        "patches of the images that DQ chose, and to fill them in or leave them black. Bits are with the inpainter, "
        "without it, and of the whole images, 32 a pixel. Seconds are of everything, on a shared machine.",
        "num_images random graph_cut dq adq dq_over_graph_cut dq_over_random least_salient_costs "
        "least_salient_black_costs most_salient_costs chance_costs chance_black_costs bits bits_without_inpainter "
        "bits_whole seconds",
        {"dq_digits_20": ["scripts/quantisation.py"]},
    ),
    "selfsupervised": Table(
        "Test accuracy in percent of linear probes of all training labels: means over three networks of width 32 that "
        "were pretrained on the pairs, on as many random real images with the encoder's features of them, on nothing, "
        "and of the encoder itself. Seconds are of distilling, without the encoder and without compilation, on a "
        "shared machine.",
        "num_images num_bits steps probe_mean random_real_probe_mean random_initialisation_probe_mean "
        "encoder_probe_mean seconds",
        {"krr_st_fashion_mnist_100": ["--config=krr_st", "--evaluate=full"]},
    ),
    "precision": Table(
        "The policies of precision float32 and bfloat16 (of distilling; networks are evaluated in float32), all else "
        "equal, in short runs. Test accuracy in percent of the last iterate: mean over networks, then mean ± std over "
        "seeds; beside it random real images. On a CPU with jaxdd-onednn; what an update costs is in "
        "docs/convolutions.md.",
        "num_images steps accuracy_mean accuracy_std random_real_mean kernel_accuracy",
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
    "repeated sampling": Table(
        "The compute-matched baseline: a share of 4,000 digits an epoch, an MLP of two layers of 128, 80 epochs of it. "
        "Test accuracy in percent of the last iterate, mean ± std over seeds. RS2 draws another share every "
        "epoch; all data: as many steps on ordinary epochs (the same as RS2 without replacement, here with other "
        "seeds). Static subsets have that share once and for all. InfoBatch takes as many steps as all data, and what "
        "it left out of them is no visit: it saves visits and no seconds. CPU-seconds are without compilation; those "
        "of static subsets include selecting them, for EL2N training a network for four epochs on all data.",
        "steps visits full_accuracy without_accuracy with_accuracy static_accuracy herding_accuracy easy_accuracy "
        "infobatch_accuracy infobatch_visits with_cpu_seconds herding_cpu_seconds easy_cpu_seconds "
        "infobatch_cpu_seconds",
        {f"rs2_mnist_5k_{share}": [*_RS2, f"--share=0.{share}"] for share in ("05", "10")},
        page="selection_training",
        below="![Accuracy against visits and CPU-seconds](../images/repeated_sampling.png)\n\nBudgets of 5, 20 and 80 "
        "epochs, each with a schedule of its own; means over seeds.\n`python scripts/repeated_sampling.py "
        "--draw=docs/images/repeated_sampling.png docs/results/rs2_*.json`",
    ),
    "knowledge in pruning": Table(
        "Students on random rows of Fashion-MNIST, as many of each class, taught by a network of the same kind (a "
        "ConvNet of width 32) that was trained on all: (1 - a) of cross-entropy with the labels and a of the "
        "divergence from the teacher, at temperature 4; `longer`: a teacher of 12 epochs instead of 3, students of 60 "
        "instead of 30. Test accuracy in percent of the last iterate, mean ± std over "
        "seeds; all students of a seed begin alike, on the same rows.",
        "num_images steps teacher_accuracy " + " ".join(f"share_{share}" for share in _SHARES) + " seconds",
        {
            "knowledge_fashion_mnist_5": [*_KNOWLEDGE, "--kept=0.05"],
            "knowledge_longer_fashion_mnist_5": [*_KNOWLEDGE, "--kept=0.05", "--teacher_epochs=12", "--epochs=60"],
        },
        page="selection_training",
    ),
    "queries": Table(
        "Queries to a teacher, scikit-learn's digits, a student of two heads on an MLP (width 128), docs/queries.md. "
        "Test accuracy in percent after the last round, by rule; mean ± std over seeds, each a split of its own. "
        "`rad`: a teacher of 60 labels answers 100 questions; wrong are so many of its answers (`rad_soft`: with "
        "probabilities for answers). `activekd`: five rounds of ten right labels, with a biased teacher distilled "
        "beside them, or without (`alone`); the last columns are means over rounds 3 to 5.",
        "teacher_error start random margin robust entropy badge k_center pcoreset random_wrong margin_wrong "
        "robust_wrong random_late k_center_late pcoreset_late seconds",
        {
            "rad_digits": ["scripts/ask_digits.py", "wrong"],
            "rad_soft_digits": ["scripts/ask_digits.py", "wrong", "--soft"],
            "activekd_digits": ["scripts/ask_digits.py", "biased"],
            "activekd_sharp_digits": ["scripts/ask_digits.py", "biased", "--softened=1"],
            "activekd_alone_digits": ["scripts/ask_digits.py", "biased", "--share=0"],
        },
    ),
    "audit": Table(
        "One step of gradient descent on 100 distilled images, given to ten trained networks that took no part in "
        "distilling them: the share of the attacked class's test images that are then taken for the target class, "
        "and what the accuracy on all other classes loses, in percent; mean ± std over seeds. `real`: as many real "
        "images, those of the attacked class labelled as the target, with the learned rate; `real, best rate`: "
        "with the multiple of it that succeeds most while the other classes lose less than ten points.",
        "num_images success_before success others_drop real_success real_others_drop real_harm_10_success "
        "real_harm_10_others_drop real_same_harm_success real_same_harm_others_drop seconds",
        {
            "poisoning_mnist_mlp": [*_POISON, "--model=mlp", "--networks=40", "--steps=1500"],
            "poisoning_mnist_lenet": [*_POISON, "--model=lenet", "--networks=30", "--steps=500"],
        },
    ),
}
PAGES = {title: table.page or title for title, table in TABLES.items()}
ROWS = {name: (title, arguments) for title, table in TABLES.items() for name, arguments in table.rows.items()}
