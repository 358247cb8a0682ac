r"""Whether faces are said to smile as rightly of women as of men, and what parity would cost.

  python pipelines/evaluate.py --weights=weights/vit-large \
      --config=configs/evaluate/celeba.py:/data/celeba
  python pipelines/evaluate.py --workdir=runs/student \
      --config=configs/evaluate/celeba.py:tfds:celeb_a
  python pipelines/evaluate.py --workdir=runs/smiling \
      --config=configs/evaluate/celeba.py:/data/celeba --config.evals.smiling.positive=smiling

The argument is CelebA's folder, with img_align_celeba, list_attr_celeba.txt and
list_eval_partition.txt, or the data set as TFDS has it. A linear head on frozen features, fitted to
the training images, says who smiles, as ViT-22B was judged; with `positive` it is a class of the
model. Debiasers are fitted to the validation images; the images to test are measured.
"""

import ml_collections


def get_config(root="celeba"):
    if root.startswith("tfds:"):
        images = dict(
            source=root,
            split="test",
            held_out_split="validation",
            train_split="train",
            target="attributes/Smiling",
            group="attributes/Male",
        )
    else:
        images = dict(
            source=f"images:{root}/img_align_celeba",
            split="train",
            target="Smiling",
            group="Male",
            attributes=f"{root}/list_attr_celeba.txt",
            partition=f"{root}/list_eval_partition.txt",
        )
    return ml_collections.ConfigDict(dict(evals=dict(smiling=dict(kind="fairness", **images))))
