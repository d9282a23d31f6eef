"""The one training loop and its settings."""
