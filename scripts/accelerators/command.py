"""The command line of `accelerators.py`: a process for each platform, since each needs an environment of its own."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmark.tables import put

from accelerators.targets import PLATFORMS, environment
from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError

SMOKE = ("dm", "kip", "sre2l")
_SAID = ("name", "platform", "compiles", "launches", "host_launches", "error", "seconds")
_TYPES = ("convolution_types", "product_types")


def main(description: str | None) -> int:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=f"the smallest examples of {', '.join(SMOKE)}")
    parser.add_argument("--platforms", nargs="+", choices=PLATFORMS, default=("gpu", "tpu"))
    parser.add_argument("--methods", nargs="+", metavar="METHOD[:PRESET]")
    parser.add_argument("--precision", default="default", help="of networks, as of execution.precision")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="put their table in this file")
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        from accelerators.rows import rows

        chosen = {"smoke": options.smoke, "precision": options.precision}
        for row in rows(options.platforms[0], options.methods, options.inside, **chosen):
            print(json.dumps(row), flush=True)
        return 0
    try:
        for name in options.methods or ():
            configs.find(name)
    except JaxddError as error:
        parser.error(str(error))
    found: list[dict[str, Any]] = []
    for platform in options.platforms:
        with tempfile.TemporaryDirectory() as dump:
            command = [sys.executable, sys.argv[0], "--platforms", platform, "--inside", dump]
            command += ["--precision", options.precision]
            command += ["--smoke"] if options.smoke else []
            names = options.methods or (SMOKE if options.smoke else ())
            command += ["--methods", *names] if names else []
            variables = {**os.environ, **environment(platform, pathlib.Path(dump))}
            with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
                for line in process.stdout or ():
                    found.append(json.loads(line))
                    print({name: found[-1].get(name) for name in _SAID}, flush=True)
                    if options.json is not None:  # what is there stays when somebody ends this
                        options.json.write_text(json.dumps({"rows": found}, indent=1) + "\n")
            if process.returncode:
                return process.returncode
    if options.markdown is not None:
        put(table(found), "accelerators", options.markdown)
    return 0 if all(row["compiles"] for row in found) else 1


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | platform | launches | by the host | convolutions | products | GB | carried out |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        if not row["compiles"]:
            lines.append(f"| `{row['name']}` | {row['platform']} | {row['error']} | | | | | |")
            continue
        unknown = f", {row['unknown_loops']} loops once" if row["unknown_loops"] else ""
        types = ("; ".join(f"{name} × {count:,}" for name, count in row[of].items()) for of in _TYPES)
        how = ", ".join(f"{name} {value}" for name, value in row["execution"].items() if value not in (None, "default"))
        gigabytes = f"{row['peak_bytes'] / 1e9:.2g}"
        by_host = "" if row["host_launches"] is None else f"{row['host_launches']:,}"
        cells = f"`{row['name']}`", row["platform"], f"{row['launches']:,}{unknown}", by_host, *types, gigabytes, how
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
