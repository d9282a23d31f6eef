"""From a file or a data frame to checked columns: strict tables, attributes, class names, scores."""
