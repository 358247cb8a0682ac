"""What is wrong with a config, in words that say what to type."""

import difflib
from collections.abc import Iterable, Sequence

from distill.errors import UserError


class ConfigError(UserError):
    """Everything that is wrong with a config, a line each."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__(f"{count} in the config\n" + "\n".join(f"  {p}" for p in self.problems))


def unknown_key(path: str, key: str, names: Sequence[str], known: Sequence[str]) -> str:
    """That a section has no such key, with what was probably meant.

    Args:
      path: of the section.
      key: as it was given.
      names: of the section's keys.
      known: paths of all keys of the config.
    """
    message = f"{path}.{key} is unknown"
    exact = [p for p in known if p.split(".")[-1] == key]
    # `lr` is how many people write `learning_rate`.
    initials = [n for n in names if "".join(word[:1] for word in n.split("_")) == key]
    near = [f"{path}.{n}" for n in initials or difflib.get_close_matches(key, names, 1, 0.5)]
    leaves = {p.split(".")[-1]: p for p in reversed(known)}
    far = [leaves[name] for name in difflib.get_close_matches(key, leaves, 1, 0.75)]
    for suggestion in (*exact, *near, *far):
        return f"{message}; did you mean {suggestion}?"
    return f"{message}; {path} has {', '.join(names)}"
