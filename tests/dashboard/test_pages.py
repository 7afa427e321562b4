"""The dashboard as a person meets it, in headless Chromium: every page, the filters, and a lake with nothing in it."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = pytest.mark.slow

PAGES = ["Overview", "Activity", "Catalogue", "Data quality", "Drift", "Recommendations", "Look-up"]
CHARTS = {
    "Overview": 2,
    "Activity": 6,
    "Catalogue": 5,
    "Data quality": 1,
    "Drift": 2,
    "Recommendations": 3,
    "Look-up": 0,
}
LOOKED_FOR = 45_000  # ms, on a busy machine


class Tab:
    """One page of the browser, and everything that went wrong on it."""

    def __init__(self, browser):
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(LOOKED_FOR)
        self.wrong, self.outside = [], []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, message):
        # Opened below the root, Streamlit's page looks for its server at /activity/_stcore first, and then at the root.
        looking = re.search(r"/[a-z]+/_stcore/(health|host-config)$", message.location.get("url", ""))
        if message.type == "error" and not looking:
            self.wrong.append(message.text)

    def _asked(self, request):
        if urlsplit(request.url).scheme.startswith(("http", "ws")) and urlsplit(request.url).hostname != "127.0.0.1":
            self.outside.append(request.url)

    def open(self, url, title):
        self.page.goto(url)
        self.settle(title)

    def click(self, title):
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
        self.settle(title)

    def settle(self, title):
        """Wait until the page of this title is drawn; it must not have failed."""
        self.page.get_by_role("heading", name=title, exact=True).wait_for()
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
            " && !document.querySelector('[data-testid=stSkeleton],[data-stale=true]')"
        )
        assert self.page.get_by_test_id("stException").count() == 0
        assert self.page.get_by_text("This page failed").count() == 0, self.page.inner_text("body")

    def metric(self, label):
        found = self.page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{label}"))
        return int(found.get_by_test_id("stMetricValue").first.inner_text().replace(",", ""))


@pytest.fixture(scope="module")
def url(start_dashboard, filled):
    return start_dashboard(filled)


@pytest.fixture(scope="module")
def window(browser):
    """One tab for all: Streamlit's scripts are large, and a new tab reads them again."""
    return Tab(browser)


@pytest.fixture
def tab(window):
    yield window
    assert window.wrong == []
    assert window.outside == []


def test_every_page_draws_and_nothing_leaves_the_machine(url, tab):
    tab.open(url, "Overview")
    for title in PAGES:
        tab.click(title)
        tab.page.wait_for_function("n => document.querySelectorAll('.js-plotly-plot').length >= n", arg=CHARTS[title])
        assert tab.page.get_by_test_id("stDataFrame").count() or CHARTS[title]


def test_filters_change_the_charts_and_live_in_the_address(url, tab):
    tab.click("Activity")
    everything = tab.metric("Events")
    tab.page.get_by_test_id("stMultiSelect").get_by_role("combobox").click()
    tab.page.get_by_role("option", name="click").click()
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_function(f"() => !document.body.innerText.includes('{everything:,}')")
    tab.settle("Activity")
    clicks = tab.metric("Events")
    assert 0 < clicks < everything
    assert parse_qs(urlsplit(tab.page.url).query)["actions"] == ["click"]
    tab.click("Catalogue")  # the filter goes along
    assert parse_qs(urlsplit(tab.page.url).query)["actions"] == ["click"]
    tab.open(tab.page.url.replace("/catalogue", "/activity"), "Activity")  # and somebody else sees the same
    assert tab.metric("Events") == clicks
    tab.page.get_by_role("button", name="Reset filters").click()
    tab.page.get_by_text(f"{everything:,}").first.wait_for()


def test_an_empty_selection_says_so(url, tab):
    nobody = "users=occupation%3A+0&dates=2008-12-31&dates=2008-12-31"
    tab.open(f"{url}/activity?{nobody}", "Activity")
    for title in ("Activity", "Catalogue", "Recommendations"):
        tab.click(title)
        tab.page.get_by_text("Widen the dates").first.wait_for()


def test_a_user_is_looked_up_and_an_id_that_is_none_is_refused(url, tab):
    tab.open(f"{url}/lookup?user=7", "Look-up")
    tab.page.get_by_role("heading", name="User 7").wait_for()
    tab.page.get_by_role("textbox", name="User id").fill("seven")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("is no user id").wait_for()


def test_an_empty_lake_names_the_command_that_fills_it(start_dashboard, tab, tmp_path_factory):
    tab.open(start_dashboard(tmp_path_factory.mktemp("empty")), "Overview")
    for title in PAGES:
        tab.click(title)
        tab.page.get_by_text("slipway ingest").first.wait_for()
