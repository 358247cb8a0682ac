"""What is exported under other libraries' names is read back as the model it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import exportable

from distill.export import hf, timm
from teachers.pretrained import open_published


@pytest.mark.parametrize(
    ("form", "head"), [(hf, "cls"), (timm, "cls"), (timm, "gap"), (timm, "map")]
)
def test_an_exported_student_is_read_back(form, head, tmp_path):
    exported = exportable(head, mean=(0.4,), std=(0.2,))
    form.write(exported, tmp_path / "written")
    read = open_published(tmp_path / "written")
    assert read.class_names in ((), tuple(exported.class_names))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)), jnp.float32)
    ours, theirs = (
        network.apply(params, network.prepare(images)).logits
        for network, params in (
            (exported.network, exported.params),
            (read.network, jax.tree.map(jnp.asarray, read.read())),
        )
    )
    assert np.std(ours) > 0.1
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
