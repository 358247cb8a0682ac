"""Terms of the matching loss: what modules declare, and what the docs say of it."""

import re
from pathlib import Path

import pytest
from support import REPOSITORY, run_script

from distill.losses import known_terms
from distill.tasks.matching.config import LossWeights, MatchingConfig

NEW_TERM = """
import jax.numpy as jnp
from distill.losses.term import Term

def largest_difference(teacher, student):
    return jnp.max(jnp.abs(student - teacher), axis=-1)

TERMS = (Term(name="NAME", compares="logits", function=largest_difference, description="max"),)
"""

USE_TERM = """
import json
import distill.losses
distill.losses.__path__.append(FOLDER)
import jax.numpy as jnp
from distill.config import resolve, to_dict, with_defaults
from distill.losses import known_terms
from distill.tasks.matching.config import MatchingConfig
config = resolve(MatchingConfig, {"losses": {"kl": 0}}, {"losses.logits_max": "0.5"})
value = known_terms()["logits_max"](jnp.array([[0., 1.]]), jnp.array([[3., 0.]]), 1.0)
old = {name: weight for name, weight in to_dict(config)["losses"].items() if name != "logits_max"}
print(json.dumps([config.losses.terms, float(value), with_defaults(config, {"losses": old})]))
"""


def use(folder: Path, name: str):
    (folder / "largest.py").write_text(NEW_TERM.replace("NAME", name))
    return run_script(USE_TERM.replace("FOLDER", repr(str(folder))))


def test_a_new_file_adds_a_term(tmp_path):
    terms, value, completed = use(tmp_path, "logits_max")
    assert terms == {"logits_max": 0.5}
    assert value == 3.0
    # A run that was recorded before it was there did without.
    assert completed["losses"]["logits_max"] == 0.0


def test_two_terms_of_one_name_are_refused(tmp_path):
    with pytest.raises(AssertionError, match="declare a term kl"):
        use(tmp_path, "kl")


def test_the_docs_tell_every_term():
    text = (REPOSITORY / "docs" / "distillation.md").read_text(encoding="utf-8")
    section = text.partition("## What is compared")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)`[^|]* \| ([a-z]+) \| (.*?) \|$", section, re.MULTILINE)
    expected = [(t.name, t.compares, t.description) for t in known_terms().values()]
    assert rows == expected


def test_only_kl_counts_unless_a_config_says_so():
    assert MatchingConfig().losses.weights == {"kl": 1.0}
    assert not MatchingConfig().losses.needs_labels
    assert LossWeights(kl=0.0, labels=1.0).needs_labels
    assert LossWeights(kl=0.0, labels=1.0).terms == {}


def test_weights_say_what_is_compared_and_projected():
    losses = LossWeights(embedding_rkd=1.0, tokens_mse=1.0, logits_l2=1.0)
    assert losses.features == ("logits", "embedding", "tokens")
    assert losses.projected == ("tokens",)
    assert losses.of_logits == ("logits_l2",)
