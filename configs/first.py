"""The first run: real MNIST digits into forty small ones, in the bits of ten.

By IDC (Kim et al., ICML 2022, https://arxiv.org/abs/2205.14959). Two CPU cores take a minute and a quarter, and a
minute to train nine ConvNets, on the distilled digits, on random real and on herded ones of as many bits:

    jaxdd distill --config=first --evaluate=full --workdir=runs/first

The digits are those that the extra `demo` brings; 3,600 of them are seen. The network is small and the schedule short;
the rate, the updates, the examples that its networks train on in between, and the protocol were chosen on held-out
training digits. The paper's settings are in configs/idc.py.
"""

from jaxdd.cli import template


def get_config():
    return template(
        "idc",
        method={
            "ipc": 1,
            "model": "convnet(width=16)",
            "distance": "l1",
            "learning_rate": 0.02,
            "matching_steps": 50,
            "network_examples": 256,
        },
        run={"steps": 150},
        evaluation={"protocol": "dsa-digits", "networks": 3},
    )
