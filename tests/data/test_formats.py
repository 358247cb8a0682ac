"""A data format is one file, which declares what a config calls it and how it is opened."""

import sys

import pytest

import distill.data.sources
from distill.config import ConfigError, resolve
from distill.data import DataConfig, open_source
from distill.data.sources import source_name
from distill.data.sources.formats import Format, known_formats
from distill.errors import UserError
from distill.modules import modules_in

SCANS = '''
"""Digits of which a file names the split."""

from pathlib import Path

from distill.data.sources.digits import Digits
from distill.data.sources.formats import Format
from distill.data.sources.splits import open_parts


def _open(request):
    split = Path(request.argument).read_text()
    return open_parts(request.split, lambda whole: Digits(split, request.channels))


FORMATS = (Format(name="scans", argument="PATH", open=_open),)
'''


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A file that is added to `distill.data.sources`."""
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "scans.py").write_text(SCANS)
    package = distill.data.sources
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    for cached in (modules_in, known_formats):
        cached.cache_clear()
    yield
    sys.modules.pop("distill.data.sources.scans")
    del package.scans
    for cached in (modules_in, known_formats):
        cached.cache_clear()


def test_a_format_is_one_file(scans, tmp_path, monkeypatch):
    (tmp_path / "of").write_text("validation")
    monkeypatch.chdir(tmp_path)
    config = resolve(DataConfig, {"source": "scans:of", "train_split": "train[:50%]"})
    assert config.source == f"scans:{tmp_path}/of"
    assert len(config.open(config.train_split, channels=3)) == 120
    with pytest.raises(ConfigError, match=r"config\.source is 'scans:gs://b'"):
        resolve(DataConfig, {"source": "scans:gs://b"})
    with pytest.raises(
        UserError, match=r"expected .*digits, folder:PATH, .*tfds:NAME, .*scans:PATH"
    ):
        open_source("scans", "train", channels=3)


def test_names_of_one_format_each(scans, monkeypatch):
    import distill.data.sources.scans as added

    monkeypatch.setattr(added, "FORMATS", (Format(name="digits", open=added.FORMATS[0].open),))
    known_formats.cache_clear()
    with pytest.raises(ValueError, match="declare a format digits"):
        source_name("digits")
