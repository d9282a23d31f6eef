"""`python -m equiprune` is `equiprune`."""

from equiprune.cli import main

main()
