"""`python -m serving.embedded`: the embedded KServe in the foreground, until Ctrl-C.

Laptop only; on a cluster KServe itself does this. In the background: `slipway up`.
"""

import asyncio
import logging
import sys

from serving.embedded.supervisor import supervise
from slipway.errors import SlipwayError
from slipway.settings import settings


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(supervise(settings()))
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
