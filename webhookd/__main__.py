"""`python -m webhookd`: the command line."""

import sys

from webhookd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
