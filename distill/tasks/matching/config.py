"""How a student is matched to its teachers."""

import dataclasses
from typing import Any, Literal

from distill.bounds import BatchSize, Depth, NotNegative, Positive, SomeSteps, check_fields
from distill.config import how_it_runs
from distill.errors import check_each_once
from distill.losses import Term, known_terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LossWeights:
    """The loss is the sum of its terms times these weights; terms of weight 0 cost nothing.

    There is a weight for each term that a module of `distill.losses` declares. Tokens of another
    grid are resampled to the student's.

    Raises:
      ValueError: if a weight is negative or all are 0.
    """

    def __post_init__(self):
        check_fields(self)
        weights = dataclasses.asdict(self)
        if not any(weights.values()):
            raise ValueError(f"give one of {', '.join(weights)} a weight, or nothing is learned")

    @property
    def weights(self) -> dict[str, float]:
        """Of all terms but those of weight 0."""
        return {name: weight for name in known_terms() if (weight := getattr(self, name))}

    @property
    def terms(self) -> dict[str, float]:
        """The weights of those terms that compare with teachers."""
        return {term.name: self.weights[term.name] for term in self._with_teachers}

    @property
    def needs_labels(self) -> bool:
        """Whether a term compares with labels."""
        return any(term.compares == "labels" for term in self._given)

    @property
    def needs_captions(self) -> bool:
        """Whether a term takes the texts that go with the images."""
        return any(term.of_texts for term in self._given)

    @property
    def mean_over_examples(self) -> bool:
        """Whether no term compares the examples of a batch with each other."""
        return all(term.mean_over_examples for term in self._given)

    @property
    def features(self) -> tuple[str, ...]:
        """What is compared with teachers: some of `distill.losses.FEATURES`."""
        return tuple(dict.fromkeys(term.compares for term in self._with_teachers))

    @property
    def projected(self) -> tuple[str, ...]:
        """What is compared in the teachers' spaces: some of embedding, tokens, layers."""
        found = (term.compares for term in self._with_teachers if term.is_projected)
        return tuple(dict.fromkeys(found))

    @property
    def of_logits(self) -> tuple[str, ...]:
        """The terms that compare logits themselves, not the probabilities they give."""
        found = [term for term in self._with_teachers if term.compares == "logits"]
        return tuple(term.name for term in found if not term.of_probabilities)

    @property
    def _given(self) -> list[Term]:
        return [known_terms()[name] for name in self.weights]

    @property
    def _with_teachers(self) -> list[Term]:
        return [term for term in self._given if term.of_teachers]


def _weight(term: Term) -> tuple[str, Any, Any]:
    default = 1.0 if term.name == "kl" else 0.0
    return (
        term.name,
        NotNegative,
        dataclasses.field(default=default, metadata={"help": term.description}),
    )


LossWeights = dataclasses.make_dataclass(
    "LossWeights",
    map(_weight, known_terms().values()),
    bases=(_LossWeights,),
    namespace={"__doc__": _LossWeights.__doc__, "__module__": __name__},
    frozen=True,
    kw_only=True,
)


Layers = tuple[tuple[Depth, Depth], ...]
"""Pairs of a layer of the student and one of a teacher, both numbered from 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How a student is matched (arXiv 2106.05237, §3).

    The defaults are function matching. The study's other ways to teach are `mixup=0`, the same
    crop without mixup ("consistent teaching"); `teacher_view="independent"`, crops of their own
    ("independent noise"); `teacher_view="fixed"`, targets from the clean centre crop ("fixed
    teacher").

    Raises:
      ValueError: for values out of bounds or choices that contradict each other.
    """

    losses: LossWeights = LossWeights()
    temperature: Positive = 1.0
    """T of the term `kl`."""
    teacher_view: Literal["same", "independent", "fixed"] = "same"
    """What teachers see: the student's view, a random view of their own, or the centre crop."""
    mixup: NotNegative = 1.0
    """Both parameters of mixup's Beta distribution; 0 does not mix."""
    cutmix: NotNegative = 0.0
    """Both parameters of CutMix's Beta distribution; 0 pastes nothing. Where mixup is on too, each
    batch gets one of them with equal chance."""
    per_example: bool = False
    """Draw mixup's coefficient, or CutMix's box, for each image instead of once for the batch."""
    several_teachers: Literal["sum", "average"] = "sum"
    """Sum the terms of all teachers, or match the average of their probabilities, which is for the
    term `kl`; both as the teachers are weighted."""
    layers: Layers = ()
    """Of the terms `layers_*`: pairs of a layer of the student and one of the teacher, from 1, such
    as ((6, 12), (12, 24))."""
    layers_of: dict[str, Layers] = dataclasses.field(default_factory=dict)
    """The same in place of `layers` for teachers by name, which may be of different depths."""
    layers_normed: bool = True
    """Tokens of a layer go through their own model's final norm before they are compared."""
    standardise: Literal["none", "standard", "phi_s"] = "none"
    """What projected terms compare with, of each teacher, layer and feature: what the teacher says;
    each dimension with mean 0 and variance 1; or turned so that all dimensions vary alike, and
    scaled as one (PHI-S, arXiv 2410.01680)."""
    standardise_batches: SomeSteps = 64
    """Means and variances are taken from the run's first so many batches, before it begins."""
    match_equal_texts: bool = True
    """Of the terms `captions_*`; see `distill.tasks.contrastive.ContrastiveConfig`."""
    block: BatchSize | None = how_it_runs(None)
    """Texts whose similarities to all images are in memory at once; see `ContrastiveConfig`."""

    def __post_init__(self):
        check_fields(self)
        if self.losses.needs_captions and (self.mixup or self.cutmix):
            raise ValueError(
                "a mixture of images has no caption, and losses compares with captions; set "
                "mixup=0 and cutmix=0"
            )
        self._check_layers()
        if self.teacher_view != "same" and (self.mixup or self.cutmix):
            raise ValueError(
                f"a teacher with teacher_view={self.teacher_view!r} does not see the student's "
                "mixture; set mixup=0 and cutmix=0"
            )
        foreign = self.losses.of_logits
        if self.several_teachers == "average" and foreign:
            raise ValueError(
                f"several_teachers='average' averages probabilities, which {', '.join(foreign)} "
                "cannot match; use kl, or several_teachers='sum'"
            )

    def _check_layers(self) -> None:
        for pairs in (self.layers, *self.layers_of.values()):
            check_each_once("layers", pairs)
        if "layers" in self.losses.features and not self.layers and not self.layers_of:
            terms = [t for t in self.losses.terms if known_terms()[t].compares == "layers"]
            raise ValueError(
                f"losses compares layers ({', '.join(terms)}), and layers names none; give pairs "
                "of the student's and the teacher's, such as ((6, 12), (12, 24))"
            )

    @property
    def ignored(self) -> tuple[str, ...]:
        """What is set and no term of `losses` looks at, in words."""
        found = []
        for key in ("layers", "layers_of"):
            if getattr(self, key) and "layers" not in self.losses.features:
                found.append(f"{key} without a term that compares layers, such as layers_mse")
        if self.standardise != "none" and not self.losses.projected:
            found.append(
                f"standardise={self.standardise} without a term in the teachers' space, such as "
                "embedding_mse"
            )
        return tuple(found)

    def pairs(self, teacher: str) -> Layers:
        """The layers compared with those of a teacher of that name; none if no term looks."""
        if "layers" not in self.losses.features:
            return ()
        return self.layers_of.get(teacher, self.layers)

    def check_teacher(self, name: str, classes: int, expected: int) -> None:
        """Checks that a teacher has what the terms compare.

        Args:
          name: what messages call it.
          classes: of the teacher; 0 has no classifier.
          expected: of the student.

        Raises:
          ValueError: if it has not.
        """
        if "logits" not in self.losses.features:
            return
        if classes != expected or not classes:
            terms = [t for t in self.losses.terms if known_terms()[t].compares == "logits"]
            has, wants = (f"{n} classes" if n else "no classifier" for n in (classes, expected))
            raise ValueError(
                f"{name} has {has} and the student {wants}, but config.matching.losses "
                f"compares logits ({', '.join(terms)}); match embeddings or tokens instead"
            )
