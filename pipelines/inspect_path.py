"""Says what a path holds: a run, a checkpoint, weights, stored targets, or an export.

  distill inspect runs/student
  distill inspect runs/student/checkpoints/10
  distill inspect runs/student/export/1
  distill inspect model.safetensors

Shapes, parameters, step, lineage and signatures, read from descriptions and headers: no model is
loaded, no parameter is read, and nothing is unpickled.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import flags

from distill.config import resolve
from distill.data.store import DESCRIPTION as STORE
from distill.errors import UserError
from distill.export.versions import DESCRIPTION as EXPORT
from distill.json_files import read_json
from distill.report.contents import (
    Tensor,
    Tensors,
    facts,
    file_table,
    read_npz,
    read_safetensors,
    sections,
    shape_text,
    signature_table,
    tensor_table,
)
from distill.report.text import text_table
from distill.train import best as best_weights
from distill.train.progress import format_figure
from distill.train.workdir import Workdir, read_config
from pipelines.launch import launch, parse
from pipelines.models import ModelConfig
from pipelines.teacher_models import teachers_of

FLAGS = flags.FlagValues()
flags.DEFINE_string("path", None, "What to look at; --path= may be left out.", flag_values=FLAGS)

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_CHECKPOINT = "_CHECKPOINT_METADATA"
_ITEMS = ("params", "trained", "projections", "optimizer")


def run(path: Path) -> str:
    """What a path holds, for a person to read.

    Raises:
      UserError: if there is nothing, or nothing that is known, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist")
    return _file(path) if path.is_file() else _directory(path)


def _file(path: Path) -> str:
    if path.suffix in _PICKLED:
        raise UserError(
            f"{path} is a pickle, whose content is code to run; it is not opened. Convert it to "
            ".safetensors where it comes from"
        )
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        return sections(f"{path}: weights", facts(metadata), tensor_table(tensors))
    if path.suffix == ".npz":
        return sections(f"{path}: arrays", tensor_table(read_npz(path)))
    raise UserError(
        f"{path} is none of the files that are known: .safetensors and .npz; of a run, a "
        "checkpoint, stored targets or an export, name the directory"
    )


def _directory(path: Path) -> str:
    if (path / STORE).is_file():
        return _store(path)
    if (path / EXPORT).is_file():
        return _export(path)
    if (path / _CHECKPOINT).is_file() or (path / "params").is_dir():
        return _checkpoint(path)
    if (path / "config.json").is_file():
        config = read_json(path / "config.json")
        if isinstance(config, dict) and {"data", "train"} <= config.keys():
            return _workdir(path)
    if files := sorted([*path.glob("*.safetensors"), *path.glob("*.npz")]):
        return sections(*map(_file, files))
    if versions := sorted(file.parent for file in path.rglob(EXPORT)):
        return sections(f"{path}: exports", text_table(*_versions(path, versions)))
    raise UserError(
        f"{path} is neither the workdir of a run, nor a checkpoint, stored targets, an export, or "
        "a directory of weights"
    )


def _workdir(path: Path) -> str:
    recorded, summary = read_config(path), Workdir(path).summary
    checkpoints = _steps(path / "checkpoints")
    about = {
        "state": "complete" if summary else "not complete",
        "steps": (summary or {}).get("steps"),
        "checkpoints": ", ".join(map(str, checkpoints)) or "none",
        "best": ", ".join(f"step {step}" for step in _steps(path / best_weights.FOLDER)),
        "data": f"{recorded['data']['source']}, split {recorded['data']['train_split']}",
    }
    figures = {
        name: format_figure(name, value) for name, value in (summary or {}).items() if "/" in name
    }
    tensors = ""
    if checkpoints:
        tensors = tensor_table(_arrays(path / "checkpoints" / str(checkpoints[-1]) / "params"))
    versions = sorted(file.parent for file in (path / "export").rglob(EXPORT))
    return sections(
        f"{path}: a run",
        facts(about),
        _model(recorded.get("model")),
        _lineage(recorded | {"teachers": teachers_of(path, recorded)}),
        facts(figures),
        tensors,
        text_table(*_versions(path, versions)) if versions else "",
    )


def _checkpoint(path: Path) -> str:
    items = [item for item in _ITEMS if (path / item).is_dir()]
    about = {"step": path.name if path.name.isdigit() else None, "items": ", ".join(items)}
    # Of its run, two directories up.
    workdir = path.resolve().parent.parent
    recorded = read_config(workdir) if (workdir / "config.json").is_file() else {}
    lineage = ""
    if recorded:
        about["run"] = workdir
        lineage = _lineage(recorded | {"teachers": teachers_of(workdir, recorded)})
    arrays = tensor_table(_arrays(path / "params"))
    return sections(
        f"{path}: a checkpoint", facts(about), _model(recorded.get("model")), lineage, arrays
    )


def _store(path: Path) -> str:
    described = read_json(path / STORE)
    try:
        about, views = described["about"], described["about"]["views"]
        holds = {
            "examples": f"{described['examples']:,}",
            "images a step": described["batch_size"],
            "files": f"{len(list(path.glob('targets-*')))} of "
            f"{-(-described['examples'] // described['examples_per_file'])}",
            "of": f"{views['data']['source']}, split {views['data']['train_split']}, seed "
            f"{views['seed']}",
            "jax": about["jax"],
        }
        arrays = {
            name: Tensor(dtype, tuple(shape))
            for name, (dtype, shape) in described["arrays"].items()
        }
        lineage = _lineage(about)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path / STORE} is not the description of a store") from error
    rows = [(name, one.dtype, shape_text(one.shape)) for name, one in arrays.items()]
    table = text_table(("per example", "dtype", "shape"), rows)
    return sections(f"{path}: stored targets", facts(holds), lineage, table)


def _export(path: Path) -> str:
    described = read_json(path / EXPORT)
    try:
        about, signature = described["about"], described["signature"]
        holds = {
            "format": described["format"],
            "dtype": described["dtype"],
            "run": about.get("workdir"),
            "step": about.get("step"),
            "licence": about.get("licence"),
            "checked on": about.get("checked_on"),
            "jax": described["jax"],
        }
        rows = [
            (one["name"], f"{one['difference']:.1e}", f"{one['agreement']:.2%}")
            for one in described["checked"]
        ]
        checked = text_table(("checked", "worst logit difference", "agrees"), rows)
        shown = "" if signature is None else signature_table(signature)
        lineage, model = _lineage(about), _model(about.get("model"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path / EXPORT} is not the description of an export") from error
    files = sorted(file for file in path.rglob("*") if file.is_file())
    weights = [tensor_table(read_safetensors(file)[0]) for file in path.glob("*.safetensors")]
    return sections(
        f"{path}: an export",
        facts(holds),
        model,
        lineage,
        shown,
        checked,
        *weights,
        file_table(path, files),
    )


def _model(recorded: Mapping[str, Any] | None) -> str:
    if not recorded:
        return ""
    config = resolve(ModelConfig, dict(recorded))
    network = config.network()
    found = network.config
    return facts(
        {
            "model": f"{config.family} {config.variant}",
            "parameters": f"{network.parameter_count():,}",
            "width": found.width,
            "depth": found.depth,
            "MLP": found.mlp_dim,
            "heads": found.heads,
            "head": found.head,
            "images": shape_text(found.image_shape),
            "classes": found.num_classes,
        }
    )


def _lineage(about: Mapping[str, Any]) -> str:
    lines = {}
    for name, teacher in (about.get("teachers") or {}).items():
        fingerprint = teacher.get("fingerprint") or "not recorded"
        key = "teacher" if name == "teacher" else f"teacher {name}"
        lines[key] = f"{teacher.get('source')}, fingerprint {fingerprint}"
    start = about.get("start") or {}
    lines |= {
        "targets": about.get("targets"),
        "started from": start.get("workdir"),
        "branched from": about.get("branch_from") or about.get("branched_from"),
    }
    return facts(lines)


def _versions(root: Path, versions: list[Path]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for version in versions:
        described = read_json(version / EXPORT)
        step = described.get("about", {}).get("step")
        rows.append((str(version.relative_to(root)), described.get("format", ""), str(step)))
    return ("export", "format", "step"), rows


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _arrays(folder: Path) -> Tensors:
    """The arrays that Orbax has written under a directory."""
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(folder.resolve()).item_metadata
    except (FileNotFoundError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} holds no parameters, or is damaged: {error}") from error
    if tree is None:
        raise UserError(f"{folder} holds no parameters, or is damaged")
    leaves = jax.tree.leaves_with_path(dict(tree), is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): Tensor(
            str(leaf.dtype), tuple(leaf.shape)
        )
        for keys, leaf in leaves
    }


def main(arguments: list[str]) -> None:
    """Prints what the path holds."""
    named = [f"--path={a}" if not a.startswith("-") else a for a in arguments]
    parse(FLAGS, named, required=("path",))
    print(run(Path(FLAGS.path)))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
