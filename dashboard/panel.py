"""The frame around a chart: what it shows, and how to read it in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st


@contextmanager
def panel(title: str, reading: str = "") -> Iterator[None]:
    with st.container(border=True):
        st.markdown(f"##### {title}")
        if reading:
            st.caption(reading)
        yield
