"""Distributions over class probabilities, how to sample one from a dropout network, and how to judge them."""
