"""Keep of a report what belongs in the repository: its figures as CSV, one picture, the command.

`mqtool sweep`, `matrix` and `ablate` write a page with everything, half a megabyte and more, most
of which can be made again from this:

    results.csv      one row a model and test set, as the report has it
    comparisons.csv  differences with their paired intervals, which no row of results.csv holds
    NAME.png         one of the report's pictures
    README.md        written if it is not there: the command, the date, what was recorded. What the
                     figures say is for its author to add, and its author's words are left alone.

    python examples/keep_report.py work/reports/NAME/ examples/results/NAME/ --picture sweep.png
"""

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="folder that mqtool has written")
    parser.add_argument("target", type=Path, help="folder in the repository")
    parser.add_argument("--picture", required=True, help="one of the report's PNG files")
    options = parser.parse_args()
    for name in ("results.json", "results.csv", options.picture):
        if not (options.report / name).is_file():
            there = ", ".join(sorted(path.name for path in options.report.glob("*.png")))
            sys.exit(f"{options.report}: has no {name}; of pictures there is {there or 'none'}")
    keep(options.report, options.target, options.picture)


def keep(report: Path, target: Path, picture: str) -> None:
    """Copy the files, write comparisons.csv, and README.md where there is none."""
    result = json.loads((report / "results.json").read_text("utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for name in ("results.csv", picture):
        shutil.copyfile(report / name, target / name)
    comparisons = result["comparisons"]
    with (target / "comparisons.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(comparisons[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(comparisons)
    facts = result["facts"]
    readme = target / "README.md"
    if readme.is_file():
        print(f"{readme}: its words are left alone; now {facts['Date']}, {facts['Command']}")
        return
    title = result["kind"].capitalize()
    lines = [f"# {title} of {facts['Model'].split(',')[0]}", "", f"    {facts['Command']}", ""]
    lines += [f"{facts['Date']}, {facts['Version']}. {facts['Recordings']}.", ""]
    lines += [f"![{title}]({picture})", ""]
    lines += ["[All rows](results.csv), [differences with their intervals](comparisons.csv)."]
    readme.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
