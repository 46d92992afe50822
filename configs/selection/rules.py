"""Coresets and pruning: real examples that are chosen, `jaxdd select --config=NAME` for each name below.

    jaxdd select --config=herding --ipc=10 --workdir=runs/herding
    jaxdd select --config=forgetting --config.data.name=fashion_mnist --fraction=0.3 --workdir=runs/forgetting

Those that look at pixels take seconds. The others train a network first (the section `network`), which is kept for the
next of them: on Fashion-MNIST and two cores a ConvNet of width 32 takes some minutes for its 20 epochs. What they reach
is in docs/results/selection.md.
"""

from jaxdd.cli import preset, selection

RULES = {
    "random": {"rule": "uniform"},
    "herding": {"rule": "herding"},  # Welling 2009
    "k_center": {"rule": "k_center"},  # Sener & Savarese 2018, arXiv:1708.00489
    "k_means": {"rule": "k_means"},
    "facility_location": {"rule": "facility_location"},
    "graph_cut": {"rule": "graph_cut"},  # Iyer et al. 2021, arXiv:2006.15412
    "dataset_quantization": {"rule": "dataset_quantization", "by": "gradients"},  # Zhou et al. 2023, arXiv:2308.10524
    "moderate": {"rule": "moderate", "by": "features"},  # Xia et al. 2023, ICLR
    "craig": {"rule": "craig", "by": "gradients"},  # Mirzasoleiman et al. 2020, arXiv:1906.01827
    "grad_match": {"rule": "grad_match", "by": "gradients"},  # Killamsetty et al. 2021, arXiv:2103.00123
    "glister": {"rule": "glister", "by": "gradients"},  # Killamsetty et al. 2021, arXiv:2012.10630
    "forgetting": {"rule": "hardest", "by": "forgetting"},  # Toneva et al. 2019, arXiv:1812.05159
    "el2n": {"rule": "hardest", "by": "el2n"},  # Paul et al. 2021, arXiv:2107.07075
    "grand": {"rule": "hardest", "by": "grad_norm"},  # GraNd, of the same
    "aum": {"rule": "easiest", "by": "aum"},  # Pleiss et al. 2020, arXiv:2001.10528: without what is wrongly labelled
    "ccs": {"rule": "ccs", "by": "aum", "cutoff": 0.1},  # Zheng et al. 2023, arXiv:2210.15809
    "margin": {"rule": "hardest", "by": "margin"},
    "entropy": {"rule": "hardest", "by": "entropy"},
    "least_confidence": {"rule": "hardest", "by": "least_confidence"},
    "easy": {"rule": "easiest", "by": "el2n"},  # prune first, distil after: Moser et al. 2024, arXiv:2411.12115
}


def get_config(name: str = "herding"):
    return selection(select=preset(RULES, name))
