"""A campaign of faults: what a run is killed, damaged, starved and fed with, and what comes of it.

`fault` says what a class of faults is, `faults` has a file for each; `campaign` runs their trials.
"""
