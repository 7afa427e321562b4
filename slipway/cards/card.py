"""Facts and an evaluation → Markdown. Knows templates and formatting; knows no workload and computes nothing.

model_card is after Mitchell et al. 2019 ("Model Cards for Model Reporting"), data_card after Pushkarna et al. 2022
("Data Cards"). What an evaluation has not measured is left out with a sentence, never an error.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, select_autoescape

from slipway.cards.about import Material
from slipway.cards.facts import Facts, Origin
from slipway.evaluation.results import Evaluation

MODEL_CARD, DATA_CARD = "model_card.md", "data_card.md"


def model_card(facts: Facts, evaluation: Evaluation, origin: Origin | None = None) -> str:
    """Markdown. Without origin it depends on the content alone: equal models and data have equal cards."""
    document = evaluation.model_dump(mode="json")
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for measurement in document.get("measurements") or ():
        kinds.setdefault(str(measurement["kind"]), []).append(measurement)
    return _render(
        MODEL_CARD,
        about=facts.about,
        data=facts.data,
        material=facts.material,
        training=facts.training,
        configuration=yaml.safe_dump(facts.training.configuration, sort_keys=False).strip(),
        e=document,
        kinds=kinds,
        checks=document.get("checks") or (),
        origin=origin,
        materials=[material for material in facts.materials if material.kind != "data set"],
    )


def data_card(facts: Facts) -> str:
    """Markdown; depends on the data alone."""
    return _render(DATA_CARD, about=facts.about, data=facts.data, material=facts.material)


def materials_page(materials: Sequence[Material]) -> str:
    """docs/outside-materials.md."""
    kinds: dict[str, list[Material]] = {}
    for material in materials:
        kinds.setdefault(material.kind, []).append(material)
    return _render("materials.md", kinds=kinds)


def summary(evaluation: Evaluation) -> str:
    """Two sentences for a registry: the headline metric, and the gate's word."""
    row = next(row for row in evaluation.rows if row.model == evaluation.served)
    found = row.intervals[evaluation.primary]
    return (
        f"{evaluation.primary} {found.value:.4f} ({found.low:.4f} to {found.high:.4f}, 95 %) of {row.model} over "
        f"{evaluation.users:,} users. The gate: {evaluation.verdict.reason}. The run's artifacts hold "
        f"cards/{MODEL_CARD} and cards/{DATA_CARD}."
    )


def _render(name: str, **values: object) -> str:
    environment = Environment(
        autoescape=select_autoescape(["html"], default_for_string=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "number": _number, "words": lambda name: str(name).replace("_", " ")}
    template = environment.from_string(files("slipway.cards").joinpath(name).read_text("utf-8"))
    return re.sub(r"\n{3,}", "\n\n", template.render(**values)).rstrip("\n") + "\n"


def _cell(text: object) -> str:
    """One cell of a table: a bar or a line's end would break the row, and a < might be taken for HTML."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:,.{digits}f}"
