"""`python -m ironloop`: runs an unmodified program on ironloop's event loop."""

from ironloop._launcher import main

if __name__ == "__main__":
    main()
