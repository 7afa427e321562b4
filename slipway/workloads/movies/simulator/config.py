"""The simulator's knobs: every number that shapes the simulated world. Knows no arrays and no files."""

from pydantic import Field, model_validator

from slipway.package import Frozen


class SimulatorConfig(Frozen):
    """One simulated world; equal configurations write equal bytes. See docs/simulator.md for the equations."""

    users: int = Field(2_500, ge=1, le=10_000_000)
    items: int = Field(1_200, ge=40, le=20_000, description="films, those released during the period included")
    shelves: int = Field(48, ge=6, le=200, description="niches of the catalogue: what a taste is about")
    days: int = Field(730, ge=28, le=3_650, description="length of the period that the ratings span")
    sessions: float = Field(10.0, gt=1, le=40, description="mean sessions a user has, where the period does not end")
    session_length: float = Field(9.0, gt=1, le=30, description="mean films in a session")
    new_share: float = Field(0.2, ge=0, lt=1, description="share of the films that come out during the period")
    taste: float = Field(1.5, ge=0, description="how much users differ in the shelves that they like")
    drift: float = Field(0.4, ge=0, description="how far a taste wanders between sessions, 1 = as far as users differ")
    relatedness: float = Field(2.5, ge=0, description="pull of the last film's shelf and of its two neighbours")
    satiation: float = Field(4.0, ge=0, description="push away from a shelf of which one had enough")
    position_bias: float = Field(0.8, ge=0, description="slot p of a shelf is examined with weight p^-position_bias")
    clicks: bool = Field(False, description="also write clicks.dat: the slot in which each film was chosen")
    seed: int = Field(1, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _shelves_filled(self) -> "SimulatorConfig":
        if self.items < 4 * self.shelves:
            raise ValueError(f"{self.items} items cannot fill {self.shelves} shelves: at least 4 are needed on each")
        return self


DEFAULT = SimulatorConfig()
"""The demo: what a laptop ingests, trains on and serves within five minutes."""

TINY = SimulatorConfig(users=500, items=200, shelves=16, days=365, taste=1.2, satiation=6.0)
"""Tests: the whole chain in seconds, in the same order of models."""
