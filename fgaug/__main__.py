"""`python -m fgaug`: the command line, where its script is not on the path."""

from fgaug.cli import main

if __name__ == "__main__":
    main()
