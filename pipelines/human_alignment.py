"""Compares models with people, by trials of both in a folder; no model is run.

  distill human_alignment --raw_data=raw-data
  distill human_alignment --raw_data=raw-data --json=alignment.json --html=alignment.html

The folder is as that of the toolbox model-vs-human: raw-data/SET/SET_MODEL_session-1.csv. Of each
model there are accuracy out of distribution, how alike its errors are to people's, and whether its
answers follow shape or texture (docs/evaluation.md). People's trials come with the project; those
in the folder, subject-01 and so on, take their place.
"""

from pathlib import Path

from absl import flags

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.collection import read_collection
from distill.command.flags import check_writable, define_path, parse
from distill.command.host import launch_host
from distill.json_files import write_json
from distill.report.human_table import HEADER, alignment_rows, explanations
from distill.terminal import text_table

FLAGS = flags.FlagValues()
define_path("raw_data", "Folder of trials, with a folder of CSV files for each set.", FLAGS)
define_path("json", "JSON file to write, with every figure.", FLAGS)
define_path("html", "HTML file to write, with plots.", FLAGS)


def main(arguments: list[str]) -> None:
    """Prints a table of the folder's models."""
    parse(FLAGS, arguments, required=("raw_data",))
    files = {name: Path(path) for name in ("json", "html") if (path := FLAGS[name].value)}
    collection = read_collection(Path(FLAGS.raw_data))
    result = human_alignment(collection.trials, AlignmentConfig())
    for name, file in files.items():
        check_writable(name, file)
    references, notes = collection.references, collection.notes
    print(text_table(HEADER, alignment_rows(result, references)))
    for text in (*explanations(result, references), *notes):
        print(text)
    if "json" in files:
        write_json(files["json"], {**result.as_json(), "references": references, "notes": notes})
    if "html" in files:
        # Drawing takes a second to load.
        from distill.report.human_alignment import write_alignment_report

        write_alignment_report(files["html"], result, references, notes)
    for name, file in files.items():
        print(f"{name}: {file}")


if __name__ == "__main__":
    launch_host(__doc__, FLAGS, main)
