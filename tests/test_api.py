"""`import distill`, and what it offers."""

from pathlib import Path

import pytest
from support import run_script

import distill
from distill.serving.model import Model


class Loaded(Model):
    """A model that is asked nothing."""

    place = Path("runs/a")
    run = evaluate = export = None  # pyright: ignore


def test_importing_loads_none_of_its_parts():
    script = """
import json, signal, sys
before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
import distill
loaded = [name for name in sys.modules if name.startswith(("distill.", "jax", "pipelines"))]
assert "distil" in dir(distill)
distill.load
after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
print(json.dumps([loaded, "distill.api" in sys.modules, before == after,
                  [name for name in sys.modules if name.startswith("pipelines")]]))
"""
    assert run_script(script) == [[], True, True, []]


def test_what_it_does_not_offer_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'distill' has no attribute 'distill_it'"):
        _ = distill.distill_it


def test_the_stub_names_what_is_offered():
    from distill import api

    assert {*distill._API} == {*api.__all__}
    stub = (distill.__file__ or "").removesuffix(".py") + ".pyi"
    with open(stub, encoding="utf-8") as file:
        told = file.read()
    assert all(f"import {name} as {name}" in told for name in distill._API)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distill.load("facebook/dinov2-base"), "hf download facebook/dinov2-base"),
        (lambda: distill.distil("nowhere", budget="1m"), "give a folder of images"),
        (lambda: distill.distil("nowhere", budget="soon"), "--budget is 'soon'"),
        (lambda: distill.distil("nowhere", budget=30), "^budget is 30; expected a text such as"),
        (lambda: distill.distil("nowhere", student=16), "^student is 16; expected a text"),
        (lambda: distill.distil(None), "^data is None; expected a path"),
        (lambda: distill.distil("nowhere", Loaded()), "^teacher is a model; .* teacher='runs/a'"),
        (lambda: distill.load("nowhere"), "^path: there is no .*nowhere; give the workdir"),
        (lambda: distill.load(3), "^path is 3; expected a path"),
        (lambda: Loaded().predict([3]), "^3 is no image; expected a path, or an array"),
        (lambda: Loaded().predict([]), "^there are no images; give paths"),
    ],
)
def test_what_is_mistyped_says_what_to_type(call, message, tmp_path, monkeypatch):
    from distill.errors import UserError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call()
