"""Files by their headers, as they are shown."""

import numpy as np
from safetensors.numpy import save_file

from distill.report.contents import (
    Tensor,
    facts,
    read_npy,
    read_npz,
    read_safetensors,
    tensor_table,
)


def test_what_was_written_is_read(tmp_path):
    arrays = {"a": np.zeros((3, 4), np.float32), "b": np.zeros((), np.int64)}
    save_file(arrays, tmp_path / "a.safetensors", {"format": "np"})
    expected = {"a": Tensor("F32", (3, 4)), "b": Tensor("I64", ())}
    assert read_safetensors(tmp_path / "a.safetensors") == (expected, {"format": "np"})
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    expected = {name: Tensor(str(array.dtype), array.shape) for name, array in arrays.items()}
    assert read_npz(tmp_path / "a.npz") == expected
    np.save(tmp_path / "a.npy", arrays["a"])
    assert read_npy(tmp_path / "a.npy") == {"": expected["a"]}


def test_a_file_cannot_steer_the_terminal(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"a\x1b[2J": np.zeros(2)}, file, {"b\nc": "d\x1b]0;" + "e" * 10_000})
    tensors, metadata = read_safetensors(file)
    shown = facts(metadata) + tensor_table(tensors)
    assert "\x1b" not in shown and "b\nc" not in shown
    assert len(shown) < 1000
