"""The dashboard's entry: pages, filters, and nothing else. Streamlit runs it anew for every click.

slipway dashboard                                       # starts the server and opens the browser
SLIPWAY_STORE_URI=s3://bucket/lake slipway dashboard    # the same, over a lake on S3
"""

import logging
from functools import partial

import streamlit as st

from dashboard import filters, hints, theme
from dashboard.views import activity, catalogue, drift, lookup, overview, quality, recommendations
from slipway.errors import SlipwayError

st.set_page_config(page_title="Slipway", page_icon=theme.ICON, layout="wide")

PAGES = (
    (overview, "Overview", ":material/dashboard:"),
    (activity, "Activity", ":material/schedule:"),
    (catalogue, "Catalogue", ":material/movie:"),
    (quality, "Data quality", ":material/fact_check:"),
    (drift, "Drift", ":material/compare_arrows:"),
    (recommendations, "Recommendations", ":material/recommend:"),
    (lookup, "Look-up", ":material/person_search:"),
)


def run(module: object, title: str) -> None:
    st.title(title, anchor=False)
    try:
        scope = filters.sidebar()
        if scope is None:
            hints.missing("The lake is empty: no data set was ingested yet.", "slipway ingest --data FOLDER")
            hints.missing("Or let simulated people fill it:", "slipway ingest")
        else:
            module.view(scope)  # type: ignore[attr-defined]
    except SlipwayError as error:
        hints.failed(error)
    except Exception as error:
        logging.getLogger("slipway.dashboard").exception("the page %s failed", title)
        hints.broke(error)


pages = [
    st.Page(
        partial(run, module, title),
        title=title,
        icon=icon,
        url_path=module.__name__.rsplit(".", 1)[-1],
        default=not place,
    )
    for place, (module, title, icon) in enumerate(PAGES)
]
st.navigation(pages).run()
