"""An idle appliance uses next to nothing."""
import time

import pytest

SECONDS = 4
SHARE_MAX = 0.05


def share(appliance, seconds=SECONDS):
    before, start = appliance.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (appliance.cpu_seconds() - before) / (time.monotonic() - start)


@pytest.mark.parametrize("policy", ["may", "encrypt"])
def test_under_5_percent_of_a_core(both, policy):
    both.rules(default={"level": policy})
    used = share(both)
    assert used < SHARE_MAX, f"{used:.1%} of a core"
