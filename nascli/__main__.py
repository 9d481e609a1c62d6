"""`python -m nascli`: the same program as `nascli`."""

from nascli.cli.app import main

if __name__ == "__main__":
    main()
