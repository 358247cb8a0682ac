r"""SigLIP So400m/14 at 384 px → B/16 at 224 px that keeps the text tower, batch 4096.

  distill distill_student --config=distill/b16_from_so400m --workdir=runs/b16 \
      --config.teacher.weights.path=weights/siglip-so400m --config.data.source=wds:DIR

configs/distill/siglip_student.py for a slice of TPUs. It says what the teacher is, so that `distill
plan` needs no weights; a run compares them with it. This run has not been measured here.
"""

from configs.distill import siglip_student


def get_config():
    config = siglip_student.get_config("B/16")
    config.model.image.update(dtype="bfloat16", remat="none")  # as docs/scale.md plans it
    config.teacher = dict(
        weights=dict(path="weights/siglip-so400m"),
        dtype="bfloat16",
        model=dict(
            family="pair",
            # Of 384 pixels, its patches of 14 see 378.
            image=dict(family="vit", variant="So400m/14", image_size=378, head="map"),
            text=dict(variant="So400m", vocab=32_000, length=64, embed_dim=1152),
            bias=True,
        ),
    )
    config.train.update(
        batch_size=4096, total_epochs=30.0, log_every=50, eval_every=2500, checkpoint_every=2500
    )
    # Both are cut over all chips: the student has a text tower as large as its teacher's.
    config.mesh = dict(data=1, fsdp=-1)
    return config
