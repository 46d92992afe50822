"""First run."""

from jaxdd.cli import template


def get_config():
    return template(
        "idc",
        method={
            "ipc": 1,
            "model": "convnet(width=16)",
            "distance": "l1",
            "learning_rate": 0.05,
            "matching_steps": 50,
            "network_examples": 500,
        },
        run={"steps": 150},
        evaluation={"protocol": "dc", "networks": 3},
    )
