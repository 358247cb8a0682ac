"""Models beside people, as a table."""

from collections.abc import Sequence

from distill.analysis.human.alignment import Alignment, HumanAlignment

HEADER = (
    *("observer", "sets", "accuracy", "difference", "observed", "error consistency", "interval"),
    *("shape bias", "shape : texture : other"),
)


def alignment_rows(result: HumanAlignment, references: Sequence[str] = ()) -> list[list[str]]:
    """A row for each model, those that come with the project marked by a star, and for people."""
    rows = [
        _row(f"{one.name}{' *' if one.name in references else ''}", one) for one in result.models
    ]
    return [*rows, _row("humans", result.humans)]


def _row(name: str, one: Alignment) -> list[str]:
    bias = one.shape_bias
    ends = one.intervals.get("error_consistency")
    counts = ""
    if bias is not None:
        shape, texture = int(bias.shape.sum()), int(bias.texture.sum())
        counts = f"{shape} : {texture} : {bias.conflicts - shape - texture}"
    return [
        name,
        str(len(one.by_dataset)),
        *(_number(value) for value in one.overall),
        "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}",
        _number(None if bias is None else bias.value),
        counts,
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def explanations(result: HumanAlignment, references: Sequence[str] = ()) -> list[str]:
    """What the table's columns and stars mean."""
    config = result.config
    texts = [
        "Humans: pairs of people. Their consistency is the ceiling that a model would reach which "
        "is as like a person as people are like each other.",
    ]
    if config.resamples:
        texts.append(
            f"Intervals hold {config.confidence:.0%} of {config.resamples:,} draws of images with "
            "replacement, as many of each condition as there are; models, people and sets stay."
        )
    if references:
        texts.append("* comes with the project, to compare with.")
    return texts
