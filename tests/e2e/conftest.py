"""Fixtures of the end-to-end tests: one lab a run, its appliance (re)started only when a test wants it otherwise.

WAXSEAL_BUILD=build/sanitize runs the marked subset against programs with sanitizers; any report fails the run.
"""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lab.lab import VDEV, XDP, Lab  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: also run against the build with sanitizers")
    # Python 3.11 cannot always parse a source while other threads run, which pytest's own style does at each failure.
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "native"


@pytest.fixture(scope="session")
def lab():
    with Lab(f"wax{os.getpid()}") as made:
        made.appliance.start_control()
        yield made
        appliance = made.appliance
        appliance.stop()
        appliance.close()
        assert not appliance.sanitizer_reports(), "\n".join(appliance.sanitizer_reports())


def alive_after(appliance):
    """waxseald must have survived the test."""
    if appliance.waxseald and appliance.waxseald.poll() is not None:
        code, log = appliance.waxseald.returncode, appliance.log_text()[-3000:]
        appliance.waxseald = None
        pytest.fail(f"waxseald died with {code}: {log}")


@pytest.fixture(scope="session", params=[XDP, VDEV])
def mode(request):
    return request.param


@pytest.fixture
def both(lab, mode):
    """The appliance, in each port mode in turn."""
    yield lab.start_appliance(mode)
    alive_after(lab.appliance)


@pytest.fixture
def xdp(lab):
    """The appliance in AF_XDP mode."""
    yield lab.start_appliance(XDP)
    alive_after(lab.appliance)


@pytest.fixture
def sink(lab):
    """sink(number, **behaviour): an event-driven server, closed after the test."""
    made = []

    def make(number, **behaviour):
        made.append(lab.sink(number, **behaviour))
        return made[-1]
    yield make
    for one in made:
        one.close()
        lab.sinks.remove(one)
