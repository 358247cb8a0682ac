"""What is wrong with a config, in words that say what to type."""

import difflib
from collections.abc import Iterable, Sequence

from distill.errors import UserError

# What other libraries call what a key here holds, and the names it may have.
_ELSEWHERE = {
    "lr": ("learning_rate",),
    "max_lr": ("learning_rate",),
    "base_lr": ("learning_rate",),
    "wd": ("weight_decay",),
    "epochs": ("total_epochs",),
    "num_epochs": ("total_epochs",),
    "max_epochs": ("total_epochs",),
    "num_train_epochs": ("total_epochs",),
    "steps": ("total_steps",),
    "num_steps": ("total_steps",),
    "max_steps": ("total_steps",),
    "batch": ("batch_size",),
    "bs": ("batch_size",),
    "kind": ("name", "kind", "family"),
    "type": ("name", "kind", "family"),
    "img_size": ("image_size",),
    "input_size": ("image_size",),
    "resolution": ("image_size",),
    "precision": ("dtype",),
    "warmup": ("warmup_steps",),
    "num_workers": ("workers",),
    "dataset": ("source",),
    "path": ("source", "workdir"),
    "root": ("source",),
    "num_labels": ("num_classes",),
    "hidden_size": ("width",),
    "embed_dim": ("width",),
    "num_heads": ("heads",),
    "num_layers": ("depth",),
    "grad_clip": ("clip_norm",),
    "max_grad_norm": ("clip_norm",),
    "max_norm": ("clip_norm",),
}


class ConfigError(UserError):
    """Everything that is wrong with a config, a line each."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__(f"{count} in the config\n" + "\n".join(f"  {p}" for p in self.problems))

    def __reduce__(self):
        """Made again of its problems, not of its text, where it comes from another process."""
        return type(self), (self.problems,)


def unknown_key(path: str, key: str, names: Sequence[str], known: Sequence[str]) -> str:
    """That a section has no such key, with what was probably meant.

    Args:
      path: of the section.
      key: as it was given.
      names: of the section's keys.
      known: paths of all keys of the config.
    """
    message = f"{path}.{key} is unknown"
    # What stands in any config goes before what the user names, and what is higher up before.
    ranked = sorted(known, key=lambda p: (p.split(".").count("NAME"), p.count(".")))
    exact = [p for p in ranked if p.split(".")[-1] == key]
    elsewhere = _ELSEWHERE.get(key, ())
    own = [f"{path}.{name}" for name in elsewhere if name in names]
    foreign = [p for name in elsewhere for p in ranked if p.split(".")[-1] == name]
    # `lr` is how many people write `learning_rate`.
    initials = [n for n in names if "".join(word[:1] for word in n.split("_")) == key]
    near = [f"{path}.{n}" for n in initials or difflib.get_close_matches(key, names, 1, 0.5)]
    leaves = {p.split(".")[-1]: p for p in reversed(ranked)}
    far = [leaves[name] for name in difflib.get_close_matches(key, leaves, 1, 0.75)]
    for suggestion in (*own, *exact, *near, *foreign, *far):
        return f"{message}; did you mean {suggestion}?"
    return f"{message}; {path} has {', '.join(names)}"
