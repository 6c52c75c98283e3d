"""`python -m personsearch` is the command `personsearch`."""

from personsearch.cli.main import main

if __name__ == "__main__":
    main()
