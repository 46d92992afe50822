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

SMOKE = ("dm", "kip", "sre2l")
DUMP = "dump"
"""The folder of what the compiler says, beside a process's rows."""
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

        dump = options.inside.parent / DUMP
        for row in rows(options.platforms[0], options.methods, dump, smoke=options.smoke, precision=options.precision):
            with options.inside.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return 0
    found: list[dict[str, Any]] = []
    for platform in options.platforms:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "rows.jsonl"
            command = [sys.executable, sys.argv[0], "--platforms", platform, "--inside", str(file)]
            command += ["--precision", options.precision]
            command += ["--smoke"] if options.smoke else []
            names = options.methods or (SMOKE if options.smoke else ())
            command += ["--methods", *names] if names else []
            variables = {**os.environ, **environment(platform, file.parent / DUMP)}
            status = subprocess.run(command, env=variables, check=False).returncode
            found += [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            if options.json is not None:
                options.json.write_text(json.dumps({"rows": found}, indent=1) + "\n")
            if status:
                return status
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
