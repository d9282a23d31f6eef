"""From a table of images to batches: manifest, cohort, splits, pixels, loader."""
