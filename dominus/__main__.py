"""`python -m dominus`: the command, where no script folder is on the path."""

from dominus.cli import main

if __name__ == "__main__":
    main()
