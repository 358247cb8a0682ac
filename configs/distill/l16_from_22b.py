r"""ViT-22B → ViT-L/16 at 384 px on ImageNet-1k by function matching, 1000 epochs.

  python pipelines/distill_student.py --config=configs/distill/l16_from_22b.py \
      --workdir=runs/l16_from_22b --config.teacher.workdir=runs/vit_22b_imagenet

arXiv 2302.05442 reports 89.6% for this student, started from pre-trained weights. The teacher
is a ViT-22B fine-tuned on ImageNet; its 14-pixel patches do not divide 384, so it sees the view
at 378 px. Everything else is configs/distill/imagenet.py. This run has not been measured here.
"""

from configs.distill import imagenet


def get_config(epochs="1000"):
    config = imagenet.get_config(epochs)
    config.model.update(variant="L/16", image_size=384, remat="none")  # as docs/scale.md plans it
    config.teacher.workdir = "runs/vit_22b_imagenet"
    config.teacher.model.update(family="vit_22b", variant="22B/14", image_size=378)
    # Each chip holds the student whole, and the teacher too, whose weights then need not be
    # gathered in every step: 41 GiB, which a TPU v5p has. On smaller chips
    # --config.teacher.rules='(("embed",("fsdp",)),)' cuts the teacher over all of them.
    config.mesh = dict(data=1, fsdp=-1, rules=(("embed", ()),))
    config.teacher.rules = (("embed", ()),)
    # Beside the teacher there is room for the activations of half of a batch.
    config.train.microbatches = 2
    return config
