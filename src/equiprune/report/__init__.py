"""The page that is handed over."""
