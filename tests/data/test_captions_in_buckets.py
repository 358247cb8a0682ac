"""Captions in buckets are those on disks."""

import pytest
from buckets import emulators
from captions import CAPTIONS, found_in, in_folder, in_tar

from distill.data import open_source


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request):
    with emulators.store(request.param) as opened:
        yield opened


def test_captions_are_read_as_they_are_from_a_disk(store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = in_folder(tmp_path / "data")
    in_tar(folder / "wds")
    lines = [f"{n}.png\t{one}" for n, some in enumerate(CAPTIONS) for one in some or [""]]
    (folder / "train.tsv").write_text("\n".join(["image\tcaption", *lines]))
    url = store.upload(folder, "captions")
    for name in ("images:{}", "wds:{}/wds", "list:{}/train.tsv"):
        here, there = (
            open_source(name.format(place), "train", channels=3, captions=True)
            for place in (folder, url)
        )
        assert there.found == here.found and found_in(there) == found_in(here) == CAPTIONS
