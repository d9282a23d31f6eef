"""Counts, and every fairness and performance figure as a function of them."""
