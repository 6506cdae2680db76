"""`python -m thebes` is the command `thebes`."""

from thebes.cli import main

if __name__ == "__main__":
    main()
