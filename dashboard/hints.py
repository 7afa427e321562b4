"""What a page says when something is not there: what, why, and the command that brings it. Never a traceback."""

import streamlit as st

from slipway.errors import SlipwayError


def missing(what: str, command: str) -> None:
    st.info(what, icon=":material/info:")
    st.code(command, language="shell", wrap_lines=True)


def nothing(what: str) -> None:
    """The selection holds none of it."""
    st.info(f"{what} Widen the dates, or take a filter away in the sidebar.", icon=":material/filter_alt_off:")


def failed(error: SlipwayError) -> None:
    st.warning(f"**{error.message}**" + (f"\n\n→ {error.remedy}" if error.remedy else ""), icon=":material/error:")


def broke(error: Exception) -> None:
    """A fault of the dashboard's own: the terminal has the whole of it."""
    st.error(
        f"This page failed: {type(error).__name__}. The terminal that runs `slipway dashboard` says more; "
        "the other pages still work.",
        icon=":material/bug_report:",
    )
