"""What `--help` prints."""

from absl import flags

from distill import config as configs


def help_text(doc: str, values: flags.FlagValues, schema: type | None) -> str:
    """The pipeline's docstring, its flags, and the keys of its config with their defaults."""
    parts = [doc.strip(), "\nFlags:"]
    for name in values:
        flag = values[name]
        default = "" if flag.default is None else f" (default {flag.default})"
        parts.append(f"  --{name}: {flag.help}{default}")
    if schema is not None:
        parts.append("\nConfig keys, overridden by --config.key=value:")
        rows = [(key.removeprefix("config."), *rest) for key, *rest in configs.describe(schema)]
        width = max(len(row[0]) for row in rows)
        parts += [f"  {key:<{width}}  {kind}  (default {default})" for key, kind, default in rows]
    return "\n".join(parts)
