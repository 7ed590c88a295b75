"""What happens to the policy's sources while mail flows: every session is decided by a whole, valid image.

Sessions run all the while, of three kinds with three known ends; nothing of them may change, whatever becomes of
Redis, of the disk, or of the image's file.
"""
import contextlib
import os
import shutil
import signal
import subprocess
import threading

import pytest
import redis

from lab.dialogue import Dialogue
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import ipv4

pytestmark = pytest.mark.sanitize

OFFERS, PLAIN = SINKS + 20, SINKS + 21
RULES = {"default": {"level": "may"}, "domain__strict_example": {"level": "encrypt"}, "domain__closed_example": {"level": "block"}}
# (server, recipient's domain, reply to the whole mail): one upgraded, one deferred, one blocked.
KINDS = ((OFFERS, "strict.example", "250"), (PLAIN, "strict.example", "451 4.7.4"), (PLAIN, "closed.example", "451 4.7.1"))
BETWEEN = 9      # sessions that end within each state of the outage
CUTS = 24        # lengths of which each is seen to be refused; all others are written, too


class Sessions:
    """One after another, until the block ends; then all that were not as they should be are told."""

    def __init__(self, lab, sinks):
        self.lab, self.sinks = lab, sinks
        self.over, self.count, self.wrong = threading.Event(), 0, []
        self.thread = threading.Thread(target=self.run)

    def one(self, server, domain, wanted):
        message = Message(200)
        try:
            with Dialogue(self.lab.client, ipv4("server", server)) as client:
                client.ehlo()
                reply = str(client.mail(message, f"{message.name}@{domain}"))
                client.quit()
        except (OSError, EOFError) as error:
            reply = repr(error)
        if not reply.startswith(wanted):
            self.wrong.append(f"{domain} at {server}: {reply}, not {wanted}")

    def run(self):
        while not self.over.is_set():
            self.one(*KINDS[self.count % len(KINDS)])
            self.count += 1

    def go_on(self):
        """Waits for some more to have ended."""
        start = self.count
        wait_for("sessions to go on", lambda: self.count >= start + BETWEEN, 60)

    def __enter__(self):
        self.thread.start()
        self.go_on()
        return self

    def __exit__(self, kind, *_):
        if not kind:
            self.go_on()
        self.over.set()
        self.thread.join()
        if not kind:
            assert not self.wrong, self.wrong
            offers, plain = self.sinks
            assert offers.mails() and all(mail.tls for mail in offers.mails()) and not plain.mails()


@pytest.fixture
def sessions(lab, xdp, sink):
    servers = sink(OFFERS), sink(PLAIN, starttls="none")
    xdp.rules(**RULES)
    with Sessions(lab, servers) as made:
        yield made


def edit_is_obeyed(appliance):
    """All is well again: an edit by hand reaches waxseald."""
    generation = appliance.client.incr("waxseal:generation")
    appliance.client.hset("waxseal:policy:edited.example", "level", "none")
    wait_for(lambda: f"generation {generation}: {appliance.status()}",
             lambda: appliance.status()["waxseald"]["generation"] >= generation, 20)


@pytest.fixture
def sentinel(lab, xdp):
    """Two Redis servers, master and replica, and a Sentinel over them, in the box; the agent is told of the Sentinel alone."""
    folder, started = lab.folder / "sentinel", []
    folder.mkdir()

    def start(name, port, *options):
        with (folder / f"{name}.log").open("ab") as out:
            started.append(lab.box.popen("redis-server", *options, "--port", port, "--bind", "127.0.0.1", "--unixsocket", folder / f"{name}.sock",
                                         "--save", "", "--dir", folder, "--pidfile", folder / f"{name}.pid", stdout=out, stderr=out,
                                         start_new_session=True))
        client = redis.Redis(unix_socket_path=str(folder / f"{name}.sock"), decode_responses=True)
        wait_for(f"{name} answers", lambda: answers(client))
        return started[-1], client
    conf = folder / "sentinel.conf"
    conf.write_text("sentinel monitor waxlab 127.0.0.1 7001 1\nsentinel down-after-milliseconds waxlab 500\n"
                    "sentinel failover-timeout waxlab 3000\n")
    home = xdp.client
    try:
        process, first = start("first", 7001)
        _, second = start("second", 7002, "--replicaof", "127.0.0.1", 7001, "--repl-diskless-sync-delay", 0)
        xdp.client = first
        lab.start_appliance(redis_address="sentinel:waxlab@127.0.0.1:7009,127.0.0.1:7010")  # nobody is at the first
        start("sentinel", 7010, conf, "--sentinel")
        restart_agent(xdp)
        wait_for(lambda: f"the agent has found the master: {xdp.agent_log.read_text()[-2000:]}",
                 lambda: xdp.agent_state()["redis"]["state"] == "live")
        xdp.rules(**RULES)
        yield process, first, second
    finally:
        xdp.client = home
        lab.start_appliance()
        restart_agent(xdp)
        for one in started:
            one.kill()
            one.wait()


def answers(client):
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()


def is_master(client):
    with contextlib.suppress(redis.ConnectionError):  # the Sentinel ends the connections of whom it promotes
        return client.role()[0] == "master"


def test_sentinel_failover(lab, xdp, sentinel, sessions):
    master, _, second = sentinel
    wait_for("the replica has it all", lambda: second.info("replication")["master_link_status"] == "up" and
             second.hget("waxseal:policy:strict.example", "level") == "encrypt")
    wait_for("the Sentinel knows the replica", lambda: "slaves=1" in lab.box.run("redis-cli", "-p", 7010, "info", "sentinel"))
    master.kill()
    master.wait()
    wait_for("the agent sees the master gone", lambda: xdp.agent_state()["redis"]["state"] != "live")
    sessions.go_on()
    wait_for("the replica is master", lambda: is_master(second))
    wait_for("the agent is with it", lambda: xdp.agent_state()["redis"]["state"] == "live")
    sessions.go_on()
    xdp.client = second
    edit_is_obeyed(xdp)
    assert "edited.example" in xdp.command("policy", "list")


def test_flushall(lab, xdp, sessions):
    subprocess.run(["redis-cli", "-s", str(xdp.redis_socket), "flushall"], check=True, stdout=subprocess.DEVNULL)
    wait_for("the agent to refuse an empty Redis", lambda: xdp.agent_state()["empty_refused"])
    sessions.go_on()
    xdp.rules(**RULES)
    wait_for("rules to be believed again", lambda: not xdp.agent_state()["empty_refused"])


def test_redis_stopped(lab, xdp, sessions):
    xdp.redis_server.send_signal(signal.SIGSTOP)
    try:
        wait_for("silence to be noticed", lambda: xdp.agent_state()["redis"]["state"] != "live")
        sessions.go_on()
        xdp.agent.kill()  # and an agent that starts meanwhile knows no rules but those it kept
        xdp.agent.wait(10)
        xdp.start_agent()
        sessions.go_on()
    finally:
        xdp.redis_server.send_signal(signal.SIGCONT)
    wait_for("live again", lambda: xdp.agent_state()["redis"]["state"] == "live")
    edit_is_obeyed(xdp)


@pytest.fixture
def small_disk(lab, xdp):
    """The image's folder on a file system of its own, of 128 KB."""
    folder = lab.folder / "small"
    folder.mkdir()
    lab.record.add("mounts", folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], check=True)
    home = xdp.image
    try:
        xdp.image = folder / "policy.image"
        shutil.copy(home, xdp.image)
        lab.start_appliance(policy_image=str(xdp.image))
        restart_agent(xdp)
        yield folder
    finally:
        xdp.image = home
        lab.start_appliance()
        restart_agent(xdp)
        subprocess.run(["umount", "-l", str(folder)], check=True)


def restart_agent(appliance):
    appliance.agent.terminate()
    appliance.agent.wait(10)
    appliance.start_agent()


def test_full_disk(lab, xdp, small_disk, sessions):
    fill = small_disk / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as out:
        while out.write(b"x" * 512):
            pass
    before = xdp.image.read_bytes()
    xdp.client.hset("waxseal:policy:*", "level", "none")
    wait_for("the agent to say that the disk is full", lambda: "No space left" in str(xdp.agent_state()["image"]))
    sessions.go_on()
    assert xdp.image.read_bytes() == before and not xdp.status()["waxseald"]["images_refused"]
    xdp.client.hset("waxseal:policy:*", "level", "may")
    fill.unlink()
    edit_is_obeyed(xdp)


def test_an_image_cut_anywhere(lab, xdp, sessions):
    """What is cut would let everything pass in clear."""
    good = xdp.image.read_bytes()
    xdp.agent.terminate()
    xdp.agent.wait(10)
    rules, lax = lab.folder / "lax.rules", lab.folder / "lax.image"
    rules.write_text("* level=none\nstrict.example level=none\nclosed.example level=none\n")
    xdp.command("policy", "compile", str(rules), "-o", str(lax))
    bytes_ = lax.read_bytes()
    looked_at = {len(bytes_) * i // CUTS for i in range(CUTS)} | {1, 63, 64, len(bytes_) - 1}
    try:
        for length in range(len(bytes_)):
            put(xdp.image, bytes_[:length])
            if length in looked_at:
                status = xdp.status()["waxseald"]["images_refused"]
                put(xdp.image, bytes_[:length])
                wait_for(f"{length} bytes to be refused", lambda: xdp.status()["waxseald"]["images_refused"] > status, 5)  # noqa: B023
        sessions.go_on()
    finally:
        put(xdp.image, good)
        wait_for("the good one", lambda: not xdp.status()["waxseald"]["image_error"])
        xdp.start_agent()


def put(path, data):
    """As whoever copies an image would: whole, by another name."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(data)
    os.rename(fresh, path)
