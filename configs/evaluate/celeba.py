r"""Whether faces are said to smile as rightly of women as of men, and what parity would cost.

  python pipelines/evaluate.py --workdir=runs/smiling \
      --config=configs/evaluate/celeba.py:/data/celeba

The argument is CelebA's folder, with img_align_celeba, list_attr_celeba.txt and
list_eval_partition.txt. The model has a class called `smiling`, the score; debiasers are fitted to
the validation images and measured on those to test.
"""

import ml_collections


def get_config(root="celeba"):
    return ml_collections.ConfigDict(
        dict(
            evals=dict(
                smiling=dict(
                    kind="fairness",
                    source=f"images:{root}/img_align_celeba",
                    split="train",
                    positive="smiling",
                    target="Smiling",
                    group="Male",
                    attributes=f"{root}/list_attr_celeba.txt",
                    partition=f"{root}/list_eval_partition.txt",
                )
            )
        )
    )
