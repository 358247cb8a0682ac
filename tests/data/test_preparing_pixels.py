"""Images of more pixels than are looked at, prepared."""

import pytest

from distill.data.preparing import Preparation, prepare, verify
from distill.data.sources.decoding import Decoding
from distill.data.sources.opening import open_source
from distill.data.sources.prepared import open_prepared
from distill.errors import UserError


def test_an_image_of_more_pixels_is_stored_as_it_is(image_folder, tmp_path):
    few = Preparation(
        source=f"folder:{image_folder}", output=tmp_path / "out", workers=0, max_pixels=599
    )
    said = []
    about = prepare(few, said.append).splits["test"]
    assert (about.marked, about.corrupt) == (0, about.images) == (0, 6)
    source = open_source(few.source, "test", channels=3)
    prepared = open_prepared(few.output, "test", Decoding())
    assert all(prepared.encoded(n) == source.encoded(n) for n in range(6))
    verify(few, said.append, all_images=True)
    whole = Preparation(source=few.source, output=few.output, workers=0)
    with pytest.raises(UserError, match="was prepared with --max_pixels=599; name a new"):
        prepare(whole, said.append)
    enough = Preparation(source=few.source, output=tmp_path / "enough", workers=0, max_pixels=600)
    assert prepare(enough, said.append).splits["test"].corrupt == 0
