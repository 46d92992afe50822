"""What people look at: pictures, curves, the report, the data card, tables for the terminal, and exports."""

from jaxdd.report import architectures, runs, tables
from jaxdd.report.croissant import croissant
from jaxdd.report.curves import curves_svg
from jaxdd.report.embedded import Growth
from jaxdd.report.exports import to_npz, to_png_folder
from jaxdd.report.facts import versions
from jaxdd.report.pictures import grid_image
from jaxdd.report.terminal import classes_table, comparison_table, describe, stages_table
from jaxdd.report.write import FILES, summary, write_report

__all__ = [
    "FILES",
    "Growth",
    "architectures",
    "classes_table",
    "comparison_table",
    "croissant",
    "curves_svg",
    "describe",
    "grid_image",
    "runs",
    "stages_table",
    "summary",
    "tables",
    "to_npz",
    "to_png_folder",
    "versions",
    "write_report",
]
