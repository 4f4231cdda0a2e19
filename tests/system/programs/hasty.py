"""webhookd itself, but that it may be told to keep things for milliseconds, and is quick to obey.

    hasty.py ARGUMENT...

`[retention]` refuses spans under five minutes, and the daemon looks for what is to go every ten
seconds: a test has no time for either.
"""

import sys

from webhookd.cli.main import main
from webhookd.config import load
from webhookd.daemon import janitor

if __name__ == "__main__":
    load.LEAST_KEPT = 1
    janitor.EVERY = 0.1
    sys.exit(main())
