"""Removing what serves one group at the cost of another."""
