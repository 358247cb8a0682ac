r"""Learns a vocabulary from captions, for a text tower that is trained from nothing.

  distill train_tokenizer list:/data/captions.tsv --output=/data/tokenizer.json
  distill train_tokenizer wds:/data/web --output=/data/tokenizer.json --vocab=32000
  distill pretrain … --config.data.captions.path=/data/tokenizer.json \
      --config.data.captions.family=siglip2

The captions are those of the source (docs/data.md); nothing is downloaded. Byte pair encoding of
words in small letters; the same captions give the same file.
"""

from absl import flags

from distill.bounds import TrainedVocabulary
from distill.command.flags import define_number, define_path, define_source, parse
from distill.command.host import launch_host
from distill.errors import UserError
from distill.paths import local_or_remote_path

FLAGS = flags.FlagValues()
define_source("source", "Whose captions to learn from; --source= may be left out.", FLAGS)
define_path("output", "File to write, in the format of tokenizer.json.", FLAGS)
flags.DEFINE_string("split", "train", "Of the source, or a slice of it.", flag_values=FLAGS)
define_number("vocab", "Tokens, at most.", FLAGS, TrainedVocabulary, 32_000)
define_path(
    "data_dir",
    "Where TFDS keeps its data sets; TFDS's default if not given.",
    FLAGS,
    read=local_or_remote_path,
)


def main(arguments: list[str]) -> None:
    """Learns from the captions that the arguments name."""
    if not arguments:
        raise UserError(
            "give a source: distill train_tokenizer list:PATH --output=FILE\nSee --help"
        )
    first, *rest = arguments
    first = first if first.startswith("-") else f"--source={first}"
    parse(FLAGS, [first, *rest], ("source", "output"))
    from distill.data import open_source
    from distill.data.captions import all_captions
    from distill.data.tokens import open_tokenizer, train_tokenizer

    source = open_source(
        FLAGS.source, FLAGS.split, channels=3, data_dir=FLAGS.data_dir, captions=True
    )
    texts = all_captions(source).texts
    if not texts:
        raise UserError(f"{FLAGS.source} has no captions in its split {FLAGS.split!r}")
    train_tokenizer(texts, FLAGS.vocab, FLAGS.output)
    found = open_tokenizer(FLAGS.output, family="siglip2").vocab
    print(f"{found:,} tokens of {len(texts):,} captions of {len(source):,} images")
    print(f"--config.data.captions.path={FLAGS.output} --config.data.captions.family=siglip2")


if __name__ == "__main__":
    launch_host(__doc__, FLAGS, main)
