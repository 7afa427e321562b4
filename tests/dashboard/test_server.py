import socket

import pytest

from dashboard import charts, server, theme
from slipway.errors import ConfigError, PortInUseError


def test_a_taken_port_is_named_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"{port}.*\n.*--port"):
            server.serve(port, browser=False, started=pytest.fail)


def test_it_listens_here_only_and_reports_to_nobody():
    options = theme.options(8501, browser=False)
    assert options["server.address"] == "127.0.0.1"
    assert options["browser.gatherUsageStats"] is False
    assert theme.options(8501, browser=False, host="0.0.0.0")["server.address"] == "0.0.0.0"


def test_an_address_of_another_machine_is_named_before_anything_starts():
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1.*\n.*SLIPWAY_DASHBOARD_HOST"):
        server.check(8501, "192.0.2.1")


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (99_999, "99,999"), (231_590, "231.6 k"), (25e6, "25.0 M")])
def test_counts_fit_on_a_tile(count, text):
    assert charts.number(count) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1_500, "1.5 kB"), (250e6, "250 MB"), (3e15, "3000 TB")])
def test_sizes_are_readable(size, text):
    assert charts.readable(size) == text
