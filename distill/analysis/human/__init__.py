"""How a model's answers compare with people's: the benchmark model-vs-human.

Geirhos et al., "Partial success in closing the gap between human and machine vision"
(arXiv 2106.07411). People and models were shown the same images and answered with one of 16
categories. Everything is computed from their trials.
"""
