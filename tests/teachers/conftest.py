"""Files of small published models, of which tests change a part."""

import numpy as np
import pytest
from published import big_vision_arrays, timm_arrays
from safetensors.numpy import save_file


@pytest.fixture
def npz(tmp_path, monkeypatch):
    """Writes arrays, with some replaced, to a file; None takes one away."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        arrays = big_vision_arrays("original", "cls") | changes
        file = tmp_path / "vit.npz"
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
        return file

    return write


@pytest.fixture
def timm(tmp_path):
    """Writes the same for timm's safetensors."""

    def write(**changes):
        arrays = timm_arrays() | changes
        file = tmp_path / "model.safetensors"
        save_file({name: value for name, value in arrays.items() if value is not None}, file)
        return file

    return write
