"""Colours that everybody can tell apart, on white and on black; and how Streamlit is to behave. Knows no data.

Okabe & Ito's palette: distinct for the common kinds of colour blindness. No state is said by colour alone.
"""

from typing import Any

BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C"
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY)
SCALE = "Cividis"
"""Dark to light in one order for every eye."""

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#0072B2" d="M15 3v19H4z"/>'
    '<path fill="#56B4E9" d="M17 7v15h10z"/><path fill="#D55E00" d="M3 24h26l-4 6H7z"/></svg>'
)
"""Inline, because Streamlit fetches its own icons for a tab from the internet."""


def options(port: int, *, browser: bool, host: str = "127.0.0.1") -> dict[str, Any]:
    """Streamlit's settings: this machine only unless told otherwise, nothing is sent anywhere, no watching of files."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": not browser,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": "127.0.0.1",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "logger.hideWelcomeMessage": True,
        "global.disableWidgetStateDuplicationWarning": True,  # "Reset filters" sets what has a default
        # Each in its own section: anything directly under `theme` would turn off the choice of light or dark.
        "theme.light.primaryColor": BLUE,
        "theme.dark.primaryColor": SKY,
    }
