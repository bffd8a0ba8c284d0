"""`python -m stratavore` is the command `stratavore`."""

from stratavore.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
