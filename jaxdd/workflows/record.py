"""What a figure must carry to be had again: seed, config, machine, versions, date."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import jax

from jaxdd import _system, report


def record(config: Mapping[str, Any], *, command: str = "") -> dict[str, Any]:
    """Of this run on this machine, now; JSON-able.

        record({"seed": 0, "method": {"name": "kip"}})["hardware"]["devices"]  # "1 × cpu"

    Args:
      config: complete, with its seed.
      command: what was typed, if anything was.
    """
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "seed": config.get("seed"),
        "config": dict(config),
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {
            "devices": ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds)),
            **_system.hardware(),
        },
        "versions": dict(report.versions()),
    }
