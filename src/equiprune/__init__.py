"""equiprune: measures how unfair an image classifier is, and makes it fairer by pruning."""
