"""200 sessions at once, sealed, upgraded, refused and clear: each ends as the policy says."""
import gc

import pytest

from lab.dialogue import client_context, send_many
from lab.lab import SINKS
from lab.mta import Message
from lab.namespaces import ipv4, ipv6

SESSIONS = 200
OFFERS, PLAIN = SINKS, SINKS + 1


@pytest.mark.parametrize("size", [2000, 100_000])
def test_200_sessions_at_once(lab, both, sink, size):
    mixed_sessions(lab, both, sink, size)


def mixed_sessions(lab, appliance, sink, size, sessions=SESSIONS):
    appliance.rules(count=True, default={"level": "may", "mode": "enforce"}, domain__strict_example={"level": "encrypt"},
               domain__never_example={"level": "block", "on_fail": "reject"})
    servers = {OFFERS: sink(OFFERS), PLAIN: sink(PLAIN, starttls="none")}
    context = client_context()
    kinds = [("sealed", OFFERS, "strict.example", context), ("upgraded", OFFERS, "strict.example", None),
             ("deferred", PLAIN, "strict.example", None), ("rejected", OFFERS, "never.example", None),
             ("clear", PLAIN, "lax.example", None)]
    jobs, wanted = [], []
    for i in range(sessions):
        kind, number, domain, tls = kinds[i % len(kinds)]
        message = Message(size)
        jobs.append(((ipv4, ipv6)[i // len(kinds) % 2]("server", number), message, f"{message.name}@{domain}", tls))
        wanted.append(kind)
    outcomes = send_many(lab.client, jobs)
    codes = {"sealed": 250, "upgraded": 250, "clear": 250, "deferred": 451, "rejected": 554}
    wrong = [(kind, outcome.last.text, outcome.error) for kind, outcome in zip(wanted, outcomes)
             if outcome.last.code != codes[kind] or outcome.error]
    assert not wrong, f"{len(wrong)} of {sessions}: {wrong[:5]}"
    for (address, message, recipient, tls), kind in zip(jobs, wanted):
        mails = [m for server in servers.values() for m in server.find(f"{message.name}@")]
        if codes[kind] != 250:
            assert not mails
        else:
            mail, = mails
            assert mail.data == message.wire(recipient)[:-3] and bool(mail.tls) == (kind != "clear")
    gc.collect()  # asyncio leaves some sockets to it, and their sessions open
    appliance.counted(**{kind: sessions // len(kinds) for kind in codes})
