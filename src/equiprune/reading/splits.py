"""The names of splits, as tables write them."""

from __future__ import annotations

from types import MappingProxyType

SPLITS = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "val": "validation",
        "valid": "validation",
        "validation": "validation",
        "test": "test",
        "testing": "test",
    }
)
"""What a cell, in lower case, means."""
