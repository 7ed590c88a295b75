"""Several lcores do what one does: I/O and workers behind it, or each for itself. A pool's flood stays the pool's."""
import collections
import contextlib
import gc
import os
import pathlib
import socket

import pytest

from lab import pressure
from lab.dialogue import Dialogue, client_context, send_many
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import PORTS, ipv4, ipv6, run
from test_forward import PORT, echo, listening
from test_idle import SHARE_MAX, sleeps
from test_mixed import OFFERS, mixed_sessions

SESSIONS = 60
FLOODED, CALM = SINKS, SINKS + 1
DATAGRAMS_FROM, DATAGRAMS_EACH = 40, 4
ROOM = 8  # sessions taken over that a worker has room for
EACH = {"dataplane_layout": "run-to-completion", "dataplane_workers": "2", "dataplane_cpus": "0,1"}


def packet_ports(inside, outside):
    """Ports owned by DPDK with that many queues. The kernel spreads frames by a hash that is symmetric."""
    return {"ports_inside": f"vdev:net_af_packet0,iface=in0,qpairs={inside}", "ports_outside": f"vdev:net_af_packet1,iface=out0,qpairs={outside}"}


@pytest.fixture(params=["xdp", "vdev", "run-to-completion"])
def two(lab, request):
    """Two workers; lcores may share a CPU."""
    layout = EACH if request.param == "run-to-completion" else {"dataplane_workers": "2", "dataplane_cpus": "0,1,1"}
    mode, ports = ("xdp", {}) if request.param == "xdp" else ("vdev", packet_ports(2, 2))
    yield lab.start_appliance(mode, **layout, **ports, limits_takeovers=str(ROOM), limits_buffer_mb="16")
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


def sleep_when_idle(appliance):
    appliance.rules(default={"level": "encrypt", "mode": "enforce"})
    status = appliance.status()
    # Nobody wakes who receives on ports that DPDK owns: naps cost something for each of them.
    naps = 2 if status["waxseald"]["layout"] == "run-to-completion" and not status["ports"][0]["xdp"] else 1
    sleeps(appliance, naps * SHARE_MAX)


@pytest.mark.alone
def test_two_workers_sleep_when_idle(two):
    sleep_when_idle(two)


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


# ---- each lcore for itself ----

@pytest.fixture(params=[pytest.param("symmetric", marks=pytest.mark.sanitize), pytest.param("asymmetric", marks=pytest.mark.sanitize), "sprayed", "af_xdp"])
def each(lab, request, monkeypatch, tmp_path):
    """Two lcores that run to completion, and how the ports spread frames over their queues: both directions of a connection
    on the same one; each direction by another hash; each frame in turn; as the senders' own stacks please."""
    kind, library = request.param, tmp_path / "queues.so"
    if lab.appliance.waxseald:
        lab.end_appliance()
    if kind in ("sprayed", "af_xdp"):
        run("gcc", "-shared", "-fPIC", "-O1", "-o", library, pathlib.Path(run.__code__.co_filename).with_name("queues.c"))
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv(*{"sprayed": ("WAXSEAL_SPRAY", "1"), "af_xdp": ("WAXSEAL_COMBINED", "2")}[kind])
    veth_queues(lab, 2 if kind == "af_xdp" else 1)
    ports = {} if kind == "af_xdp" else packet_ports(2, 3 if kind == "asymmetric" else 2)
    lab.start_appliance("xdp" if kind == "af_xdp" else "vdev", **EACH, **ports).kind = kind
    yield lab.appliance
    lab.end_appliance()
    monkeypatch.undo()
    veth_queues(lab, 1)


def veth_queues(lab, count):
    for end, port in PORTS.items():
        lab.box.run("sh", "-c", f"ethtool -L {port} rx {count} tx {count} || true")  # unmodified is an error
        getattr(lab, end).run("sh", "-c", f"ethtool -L eth0 rx {count} tx {count} || true")


def datagrams_cross(lab, address):
    """From many ports, so that every lcore passes some on. They may take their time, but none is lost."""
    with listening(lab, address, 25, socket.SOCK_DGRAM) as server, contextlib.ExitStack() as stack:
        server.settimeout(30)
        sent = [b"%d from %d" % (number, source) for source in range(DATAGRAMS_FROM) for number in range(DATAGRAMS_EACH)]
        for source in range(DATAGRAMS_FROM):
            client = stack.enter_context(lab.client.socket(server.family, socket.SOCK_DGRAM))
            for datagram in sent[source * DATAGRAMS_EACH:][:DATAGRAMS_EACH]:
                client.sendto(datagram, (address, 25))
        assert sorted(server.recvfrom(100)[0] for _ in sent) == sorted(sent)


def test_each_for_itself(lab, each, sink):
    """Every kind of session, and what is no mail: right however the queues get them, and nothing is lost between lcores."""
    books, address = pressure.Books(lab), ipv4("server", 1)
    mixed_sessions(lab, each, sink, 20_000, sessions=100)
    for to in (address, ipv6("server", 1)):
        datagrams_cross(lab, to)
    assert echo(lab, address, PORT, 1_000_000)
    gc.collect()
    found = books.close()
    assert not found["drops"].get("drop_ring") and not found["unsent_port"], found
    used = workers_of(each, OFFERS)
    assert set(used) == {0, 1} and min(used.values()) > 2, used
    status = each.status()
    assert status["waxseald"]["layout"] == "run-to-completion"
    assert ", 2 workers, run-to-completion, fail open, " in each.command("status")
    assert [worker["stalled"] for worker in status["workers"]] == [0, 0] and all(worker["flows_max"] for worker in status["workers"])
    crossed = each.counter("crossed_packets")
    # Two connections may share a bucket of owners: then one of them crosses, of a hundred.
    assert (crossed < found["rx_packets"] / 20) == (each.kind == "symmetric"), f"{crossed} of {found['rx_packets']} packets crossed"


@pytest.mark.alone
@pytest.mark.skipif("sanitize" in os.environ.get("WAXSEAL_BUILD", ""), reason="sanitizers have their own price")
def test_each_for_itself_sleeps_when_idle(each):
    sleep_when_idle(each)


def test_each_for_itself_is_stopped_and_started_again(lab, each, sink):
    """In the middle of sessions: those that were taken over are told so, those that encrypt themselves go on."""
    each.rules(default={"level": "encrypt", "mode": "enforce"})
    sink(FLOODED)
    sealed, taken = [Dialogue(lab.client, ipv4("server", FLOODED)) for _ in range(6)], [Dialogue(lab.client, ipv4("server", FLOODED)) for _ in range(6)]
    try:
        for client in sealed:
            client.ehlo()
            client.starttls(client_context())
            client.ehlo()
        for client in taken:
            client.ehlo()
            assert client.command("MAIL FROM:<a@b.example>").code == 250
        each.stop()
        each.start()
        assert [str(client.reply())[:9] for client in taken] == ["421 4.3.2"] * len(taken)
        assert [client.mail(Message(2000), "x@a.example").code for client in sealed] == [250] * len(sealed)
        jobs = [(ipv4("server", FLOODED), message, f"{message.name}@a.example", None) for message in (Message(2000) for _ in range(20))]
        assert [outcome.last.code for outcome in send_many(lab.client, jobs)] == [250] * len(jobs)
    finally:
        for client in sealed + taken:
            client.close()


@pytest.mark.parametrize("ports, wanted", [
    ({}, "in0: has 1 queue, and layout = run-to-completion with workers = 2 needs 2: ethtool -L in0 combined 2, or layout = pipeline"),
    (packet_ports(1, 2), "iface=in0,qpairs=1: has 1 queue, and layout = run-to-completion with workers = 2 needs 2: say so by qpairs=, or layout = pipeline"),
    (packet_ports(2, 1), "iface=out0,qpairs=1: has 1 queue,")], ids=["af_xdp", "inside", "outside"])
def test_a_port_without_a_queue_for_each_is_refused(lab, ports, wanted):
    appliance = lab.appliance
    if appliance.waxseald:
        lab.end_appliance()
    appliance.configure("vdev" if ports else "xdp", **EACH, **ports)
    done = appliance.run_program("waxseald", "--config", appliance.conf)
    assert done.returncode == 1 and wanted in done.stderr, done.stderr
