"""The page's server, in this process, until Ctrl-C. Knows Streamlit's start and nothing of what is shown."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path

from dashboard import theme
from slipway.errors import ConfigError, PortInUseError
from slipway.settings import settings

APP = Path(__file__).with_name("app.py")


def check(port: int, host: str = "127.0.0.1") -> None:
    """Raises PortInUseError, ConfigError; Streamlit itself would say so only after its banner."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"the dashboard cannot listen on {host}:{port}: {error.strerror or error}",
                    "set SLIPWAY_DASHBOARD_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0",
                ) from error
            raise PortInUseError(port, "--port") from error


def serve(port: int, *, browser: bool, started: Callable[[str], None]) -> None:
    """Blocks until SIGINT or SIGTERM. Raises PortInUseError, ConfigError."""
    host = settings().dashboard_host
    check(port, host)
    from streamlit.web import bootstrap

    started(f"http://{host}:{port}")
    flags = theme.options(port, browser=browser, host=host)
    bootstrap.load_config_options(flags)
    bootstrap.run(str(APP), False, [], flags)
