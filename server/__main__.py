"""`python -m server` is `bst`, for places where the console script is not on the path."""

from server.cli import main

if __name__ == "__main__":
    main()
