"""Fixtures of the end-to-end tests: one lab a run, its appliance (re)started only when a test wants it otherwise.

WAXSEAL_BUILD=build/sanitize runs the marked subset against programs with sanitizers; any report fails the run.
Several labs beside each other (tests/e2e/beside): each worker of pytest-xdist has one, and takes the next test.
"""
import os
import pathlib
import re
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lab.lab import VDEV, XDP, Lab  # noqa: E402

TABLE = pathlib.Path(__file__).with_name("table")


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: also run against the build with sanitizers")
    config.addinivalue_line("markers", "alone: asserts a time, and so does not run beside another lab")
    config.addinivalue_line("markers", "xdist_group: tests of one group run in one lab")
    # Python 3.11 cannot always parse a source while other threads run, which pytest's own style does at each failure.
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "native"


def pytest_itemcollected(item):
    """The table's rows are one scene."""
    if TABLE in item.path.parents:
        item.add_marker(pytest.mark.xdist_group("table"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest piece first: beside it, the other labs go through the rest."""
    items.sort(key=lambda item: TABLE not in item.path.parents)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What the appliance saw stands below a failure: it may not come again."""
    report = (yield).get_result()
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if report.failed and lab:
        appliance = lab.appliance
        counted = appliance.run_program("waxseal", "counters", "--json", "--config", appliance.conf).stdout
        for what, text in (("waxseald", appliance.log_text()[-3000:]), ("waxseal-agent", appliance.agent_log_text()[-3000:]),
                           ("the last sessions", "\n".join(map(str, appliance.events()[-5:]))),
                           ("counters", " ".join(f"{name}={n}" for name, n in re.findall(r'"(\w+)": (\d+)', counted) if n != "0"))):
            report.sections.append((what, text))


@pytest.fixture(scope="session")
def lab():
    with Lab(f"wax{os.environ.get('WAXSEAL_APART', os.getpid())}") as made:
        # Not SystemExit, which pytest takes for the failure of one test.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
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
