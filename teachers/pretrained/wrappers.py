"""Names of tensors without what wrappers of PyTorch modules add to them."""

import re
from pathlib import Path

import numpy as np

from distill.errors import UserError
from distill.tensor_files import Tensor, TensorFile

# DistributedDataParallel, torch.compile, FSDP and activation checkpointing, around any part.
_WRAPPER = re.compile(
    r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


class Unwrapped:
    """A file of tensors under their names without wrappers.

    Raises:
      UserError: if two become one.
    """

    def __init__(self, file: TensorFile):
        self.path: Path = file.path
        self.metadata: dict[str, str] = file.metadata
        self.tensors: dict[str, Tensor] = {}
        self._file, self._names = file, {}
        for name, tensor in file.tensors.items():
            bare = _WRAPPER.sub("", name)
            if bare in self._names:
                raise UserError(f"{file.path} holds {self._names[bare]} and {name}: which is it?")
            self._names[bare] = name
            self.tensors[bare] = tensor

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored."""
        return self._file.read(self._names[name])
