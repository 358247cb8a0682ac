"""What a run and all that came of it say of the model and of where it comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.inspect.kind import blame
from distill.inspect.tables import facts, shape_text
from distill.nn import Network, PairConfig, TextConfig, VisionNetwork
from distill.nn.dense import HeadedNetwork
from distill.nn.family import ModelConfig
from distill.runs.opened import describe_model
from distill.runs.start import start_source
from distill.runs.teachers import recorded_teachers
from distill.train.workdir import read_config, read_teachers


def model_and_lineage(workdir: Path) -> tuple[str, str]:
    """What is said of both, of a run."""
    recorded = read_config(workdir)
    with blame(workdir / "config.json", "a run"):
        about = recorded | {"teachers": _teachers(workdir, recorded)}
        model = model_facts(describe_model(workdir).network) if recorded.get("model") else ""
        return model, lineage_facts(about)


def _teachers(workdir: Path, recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A run's teachers with their fingerprints, or before it has recorded them, its config's."""
    with blame(workdir / "teachers.json", "teachers"):
        found = read_teachers(workdir)
        if found or (workdir / "teachers.json").exists():
            return {
                name: {"source": one["source"], "fingerprint": one.get("fingerprint")}
                for name, one in found.items()
            }
    return {name: {"source": one.source} for name, one in recorded_teachers(recorded).items()}


def model_facts(network: Network) -> str:
    """What a model is; one of published weights has no family here."""
    config, count = network.config, f"{network.parameter_count():,}"
    if isinstance(config, PairConfig):
        image, text = config.image, config.text
        towers = {
            "model": "a pair of an image tower and a text tower",
            "image tower": f"ViT of width {image.width} and depth {image.depth}, "
            f"{shape_text(image.image_shape)}",
            "text tower": f"width {text.width} and depth {text.depth}, {text.vocab:,} tokens, "
            f"{text.length} a text",
            "embeddings": config.embedding_width,
        }
        return facts(towers | {"parameters": count})
    if isinstance(config, TextConfig):
        shape = f"text tower of width {config.width} and depth {config.depth}"
        return facts({"model": shape, "parameters": count})
    if isinstance(network, HeadedNetwork):
        tower, outputs = network.tower, config.head.outputs
        shape = f"ViT of width {tower.width} and depth {tower.depth}"
        return facts({"model": f"a head with {outputs} outputs on a {shape}", "parameters": count})
    if not isinstance(config, ModelConfig):
        assert isinstance(network, VisionNetwork)
        shape = f"ViT of width {network.tower.width} and depth {network.tower.depth}"
        return facts({"model": shape, "parameters": count})
    name = f"{config.family} {getattr(config, 'variant', '')}".rstrip()
    return facts({"model": name, "parameters": count} | config.facts)


def lineage_facts(about: Mapping[str, Any]) -> str:
    """Teachers and runs that something comes from, as far as they are recorded."""
    lines = {
        "teacher" if name == "teacher" else f"teacher {name}": f"{teacher['source']}, fingerprint "
        f"{teacher.get('fingerprint') or 'not recorded'}"
        for name, teacher in (about.get("teachers") or {}).items()
    }
    lines |= {
        "published": about.get("published"),
        "targets": about.get("targets"),
        "started from": start_source(about.get("start")),
        "branched from": about.get("branch_from") or about.get("branched_from"),
    }
    return facts(lines)
