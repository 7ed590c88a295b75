"""A canary by percent, end to end, and the events as the ground of suggest, try and explain."""
import json

import pytest

from lab.dialogue import send_many
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import ipv4

FLOWS = 1000
AT_ONCE = 40
PERCENT = 30


@pytest.fixture
def canary(lab, xdp, sink):
    """1,000 sessions to a server without TLS, under a rule that is enforced for 30 of 100."""
    number = SINKS + 7
    sink(number, starttls="none")
    xdp.rules(default={"level": "may", "mode": "observe"},
              provider__canary=xdp.provider("encrypt", number, percent=str(PERCENT), on_fail="reject"))
    before = len(xdp.events())
    outcomes = send_many(lab.client, [(ipv4("server", number), Message(50), "a@canary.example", None) for _ in range(FLOWS)], AT_ONCE)

    def mine():
        return [event for event in xdp.events()[before:] if event["destination"] == "canary"]
    wait_for(lambda: f"{FLOWS} events, and there are {len(mine())}", lambda: len(mine()) >= FLOWS, 60, 0.2)
    return outcomes, mine()


def test_percent_is_a_share_of_the_flows(xdp, canary):
    """By the flow's hash alone: exactly those below the percentage, and that is about that share of them."""
    outcomes, events = canary
    assert not [o.error for o in outcomes if o.error]
    refused = [o for o in outcomes if o.last.code == 554]
    assert all("5.7.4 TLS required by policy encrypt" in o.last.text for o in refused)
    assert len([o for o in outcomes if o.last.code == 250]) == FLOWS - len(refused)
    assert {(event["end"], event["flow_hash"] % 100 < PERCENT) for event in events} == {("rejected", True), ("clear", False)}
    assert len([event for event in events if event["end"] == "rejected"]) == len(refused)
    deviation = (FLOWS * PERCENT / 100 * (1 - PERCENT / 100)) ** 0.5
    assert abs(len(refused) - FLOWS * PERCENT / 100) < 6 * deviation

    # The same sessions under other percentages: the canary only grows, and `try` says by how much.
    rules = xdp.folder / "other-rules"
    net = f"{ipv4('server', SINKS + 7)}/32"
    counts = []
    for percent in (0, PERCENT, 60, 100):
        rules.write_text(f"* may mode=observe\nprovider:canary encrypt on_fail=reject percent={percent} nets={net}\n")
        told = xdp.command("policy", "try", str(rules), "--json")
        counts.append(sum(row["sessions"] for row in told["rows"] if row["would_be"] == "rejected" and row["rule"] == "canary"))
    assert counts[0] == 0 and counts[1] == len(refused)
    assert counts[2] == len([event for event in events if event["flow_hash"] % 100 < 60]) and counts[3] == FLOWS

    told = json.loads(xdp.run_program("waxseal", "explain", ipv4("server", SINKS + 7), "--json", "--config", xdp.conf).stdout)
    answer = told["answers"][0]["in_clear"]
    assert answer["percent"] == PERCENT and answer["reply"].startswith("554 5.7.4") and told["answers"][0]["offered"] is False
    assert told["failures"][-1]["reason"] == "not-offered"
