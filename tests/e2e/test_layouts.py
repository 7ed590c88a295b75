"""Several workers behind one I/O lcore: what one lcore does they do too, and a pool's flood stays the pool's."""
import collections
import gc

import pytest

from lab.dialogue import Dialogue, client_context, send_many
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import ipv4, ipv6
from test_idle import SHARE_MAX, share

SESSIONS = 60
FLOODED, CALM = SINKS, SINKS + 1
ROOM = 8  # sessions taken over that a worker has room for


@pytest.fixture(params=["xdp", "vdev"])
def two(lab, request):
    """Two workers and I/O; lcores may share a CPU."""
    yield lab.start_appliance(request.param, dataplane_workers="2", dataplane_cpus="0,1,1", limits_takeovers=str(ROOM), limits_buffer_mb="16")
    assert lab.appliance.waxseald.poll() is None


def workers_of(appliance, number):
    """Which workers the sessions with that server ran on: the first byte of a flow's id."""
    return collections.Counter(event["flow"] >> 56 for event in appliance.events() if event["server"] in (ipv4("server", number), ipv6("server", number)))


@pytest.mark.sanitize
def test_sessions_over_two_workers(lab, two, sink):
    two.rules(count=True, default={"level": "encrypt", "mode": "enforce"})
    server, context, jobs = sink(FLOODED), client_context(), []
    for i in range(SESSIONS):
        message = Message(20_000)
        jobs.append(((ipv4, ipv6)[i // 2 % 2]("server", FLOODED), message, f"{message.name}@a.example", context if i % 2 else None))
    outcomes = [outcome for at in range(0, SESSIONS, ROOM) for outcome in send_many(lab.client, jobs[at:at + ROOM])]
    assert [outcome.last.code for outcome in outcomes] == [250] * SESSIONS
    for _, message, recipient, _ in jobs:
        mail, = server.find(f"{message.name}@")
        assert mail.tls and mail.data == message.wire(recipient)[:-3]
    gc.collect()  # asyncio leaves some sockets to it, and their sessions open
    two.counted(sealed=SESSIONS // 2, upgraded=SESSIONS // 2)
    used = workers_of(two, FLOODED)
    assert set(used) == {0, 1} and min(used.values()) > 2


def test_flows_of_two_workers_are_listed(lab, two, sink):
    """Each open session once, whichever worker has it, and quickly though both sleep."""
    two.rules(default={"level": "encrypt", "mode": "enforce"})
    sink(FLOODED)
    open_now = [Dialogue(lab.client, ipv4("server", FLOODED)) for _ in range(40)]
    try:
        for client in open_now:
            client.ehlo()
        listed = [flow for flow in two.command("flows", "--json") if flow["state"] == "dialogue"]
        wanted = sorted("{}:{}".format(*client.socket.getsockname()[:2]) for client in open_now)
        assert sorted(flow["client"] for flow in listed if flow["client"] in wanted) == wanted
        assert {flow["id"] >> 56 for flow in listed} == {0, 1} and len({flow["id"] for flow in listed}) == len(listed)
    finally:
        for client in open_now:
            client.close()


def test_two_workers_sleep_when_idle(two):
    two.rules(default={"level": "encrypt", "mode": "enforce"})
    used = share(two)
    assert used < SHARE_MAX, f"{used:.1%} of a core"


@pytest.mark.sanitize
def test_a_flood_of_a_pool_leaves_the_others_their_room(lab, two, sink):
    """Held sessions take all the room of the flooded provider's worker; those of another provider find theirs free."""
    rule = {"level": "encrypt", "mode": "enforce", "overload": "reset"}
    two.rules(default=rule, provider__flooded=two.provider(number=FLOODED, pool="flooded", **rule),
              provider__calm=two.provider(number=CALM, **rule))
    sink(FLOODED)
    calm, held = sink(CALM), []
    before = two.counter("takeover_no_memory")
    try:
        for _ in range(2 * ROOM):
            client = Dialogue(lab.client, ipv4("server", FLOODED))
            held.append(client)
            client.ehlo()
            client.code = client.command("MAIL FROM:<a@b.example>").code
        assert collections.Counter(client.code for client in held) == {250: ROOM, 421: ROOM}
        assert two.counter("takeover_no_memory") == before + ROOM
        jobs = [(ipv4("server", CALM), message, f"{message.name}@a.example", None) for message in (Message(2000) for _ in range(ROOM))]
        assert [outcome.last.code for outcome in send_many(lab.client, jobs)] == [250] * ROOM
        assert len(calm.mails()) == ROOM and all(mail.tls for mail in calm.mails())
    finally:
        for client in held:
            client.close()
    wait_for("the events", lambda: sum(workers_of(two, CALM).values()) >= ROOM and sum(workers_of(two, FLOODED).values()) >= ROOM, 40)
    assert len(workers_of(two, CALM)) == 1 and not set(workers_of(two, CALM)) & {1}
