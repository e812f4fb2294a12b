"""Preloaded by a fork server of the tests: its child in reserve waits for as long as a test may take."""

from __future__ import annotations

from manyhands import forkserver

forkserver.RESERVE_SECONDS = 3600.0
