"""Text towers, as they are exported."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from distill.data.tokens import Tokenizer
from distill.export.model import Exportable, Input
from distill.nn import Params, TextConfig, TextNetwork
from distill.nn.joint import normalise


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextExportable(Exportable):
    """A trained text tower and what makes tokens of texts for it.

    Raises:
      ValueError: for an unknown choice, or tokens of another length.
    """

    kind = "text"
    network: TextNetwork
    tokenizer: Tokenizer

    def __post_init__(self):
        super().__post_init__()
        check_length(self.tokenizer, self.network.config)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Numbers of tokens, as the tokenizer makes them."""
        return {"ids": Input("int32", (self.network.config.length,))}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The rule by which texts become ids: `Tokenizer.about`."""
        return self.tokenizer.about

    def function(self, **execution: Any) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
        """Maps (params, ids [B, L]) to the embedding [B, E] float32, of length 1."""
        # One program serves every platform, whatever this machine has.
        choices = dict(dtype=self.dtype, attention="plain", **execution)
        config = dataclasses.replace(self.network.config, **choices)
        network = TextNetwork(config, self.network.build)

        def serve(params: Params, ids: jax.Array) -> dict[str, jax.Array]:
            return {"embedding": normalise(network.apply(params, ids).embedding)}

        return serve

    def write_beside(self, directory: Path) -> None:
        """Copies the vocabulary, without which nothing makes ids of a text."""
        copy_vocabulary(self.tokenizer, directory)


def check_length(tokenizer: Tokenizer, config: TextConfig) -> None:
    """Checks that a text tower takes as many tokens as a tokenizer makes.

    Raises:
      ValueError: if it does not.
    """
    if tokenizer.length != config.length:
        raise ValueError(
            f"the tokenizer makes {tokenizer.length} tokens of a text; expected the "
            f"{config.length} that its text tower takes"
        )


def copy_vocabulary(tokenizer: Tokenizer, directory: Path) -> None:
    """Copies the files of a vocabulary, under their names."""
    for file in tokenizer.files:
        shutil.copyfile(file, directory / file.name)
