"""From a command line to a run."""

import os

# Libraries' chatter, unless the user has asked for it. Set before they are loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
