"""The page's server, in this process, until Ctrl-C. Knows Streamlit's start and nothing of what is shown."""

import socket
from collections.abc import Callable
from pathlib import Path

from dashboard import theme
from slipway.errors import PortInUseError

APP = Path(__file__).with_name("app.py")


def check(port: int) -> None:
    """Raises PortInUseError; Streamlit itself would say so only after its banner."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUseError(port, "--port") from error


def serve(port: int, *, browser: bool, started: Callable[[str], None]) -> None:
    """Blocks until SIGINT or SIGTERM. Raises PortInUseError."""
    check(port)
    from streamlit.web import bootstrap

    started(f"http://127.0.0.1:{port}")
    flags = theme.options(port, browser=browser)
    bootstrap.load_config_options(flags)
    bootstrap.run(str(APP), False, [], flags)
