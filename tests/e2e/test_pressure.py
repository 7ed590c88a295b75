"""A table full of sealed sessions, and a flood of SYNs: what is established goes on, memory stays within its limits, and
every frame that was sent is in the books. `make soak` does the same with a million sessions for a minute.
"""
import pytest

from lab import pressure

SESSIONS = 20_000
FLOWS = 24_000  # so that the flood meets a full table
FLOOD_SECONDS = 5
FLOW_BYTES_MAX = 1024  # of ordinary memory for a place in the table, all in all


@pytest.fixture
def small(lab):
    yield lab.start_appliance(limits_flows=str(FLOWS))
    lab.end_appliance()


def test_sealed_sessions_and_a_flood(lab, small):
    small.rules(default={"level": "encrypt", "mode": "enforce"})
    books = pressure.Books(lab)
    real = pressure.Sessions(lab, established=8, sealed=lambda i: i % 2)
    made = pressure.generate(lab, "sessions", SESSIONS)
    assert made["sessions"] == SESSIONS and pressure.telemetry(small, "/waxseal/worker,0")["flows"] >= SESSIONS
    before = pressure.memory(small)
    real.start()
    flood = pressure.generate(lab, "syn", FLOOD_SECONDS)
    said = real.finish()
    after = pressure.memory(small)
    assert said["answers"] >= said["established"]
    assert after["huge"] == before["huge"] == 256 << 20
    assert after["ordinary"] - before["ordinary"] < FLOWS * FLOW_BYTES_MAX, (before, after)
    again = pressure.generate(lab, "records", SESSIONS)  # they are all still there, and pass
    assert again["sessions"] == SESSIONS
    found = books.close()
    assert found["flows_evicted"] and not found["flows_refused"], found
    assert pressure.telemetry(small, "/waxseal/worker,0")["flows"] <= FLOWS
    assert books.wire["client"]["sent"] >= flood["sent"] + made["sent"] // 2
