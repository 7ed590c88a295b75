"""Bad input gets one line that says what, where and what would be right: exit 1, or the last good state goes on."""
import struct

import pytest

from lab.dialogue import Dialogue
from lab.lab import PLAIN
from lab.mta import wait_for
from lab.namespaces import ipv4

pytestmark = pytest.mark.sanitize

ENCRYPT = {"level": "encrypt", "mode": "enforce"}


@pytest.fixture
def stopped(lab):
    """The configuration to spoil, with no waxseald running; put right again afterwards."""
    appliance = lab.appliance
    lab.start_appliance("xdp")
    appliance.rules(default=ENCRYPT)
    appliance.stop()
    yield appliance
    lab.running = None
    appliance.configure("xdp")
    appliance.detach()


CASES = [
    ("unknown option", {"dataplane_colour": "red"}, ("colour", "[dataplane]")),
    ("unknown section", {"paint_colour": "red"}, ("[paint]",)),
    ("no such port", {"ports_inside": "nosuch0"}, ("nosuch0",)),
    ("missing port", {"ports_outside": None}, ("outside", "missing")),
    ("one port twice", {"ports_inside": "in0", "ports_outside": "in0"}, ("in0",)),
    ("fail mode", {"ports_fail": "maybe"}, ("fail", "open or closed")),
    ("number", {"dataplane_workers": "many"}, ("workers", "number")),
    ("missing CA file", {"tls_ca_file": "/nonexistent/ca.pem"}, ("/nonexistent/ca.pem",)),
    ("missing BPF program", {"dataplane_bpf_dir": "/nonexistent"}, ("/nonexistent",)),
    ("too much memory", {"dataplane_memory_mb": "1000000"}, ("hugepages", "memory_mb")),
]


@pytest.mark.parametrize("name, changes, words", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_waxseald_refuses_to_start(stopped, name, changes, words):
    stopped.configure("xdp", **changes)
    done = stopped.run_program("waxseald", "--config", str(stopped.conf), timeout=30)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("waxseald:")]
    assert len(lines) == 1 and all(word in lines[0] for word in words), done.stderr


def test_a_ca_file_without_certificates(stopped, tmp_path):
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("this is no certificate\n")
    stopped.configure("xdp", tls_ca_file=str(nonsense))
    done = stopped.run_program("waxseald", "--config", str(stopped.conf), timeout=30)
    assert done.returncode == 1 and str(nonsense) in done.stderr, done.stderr


@pytest.mark.parametrize("program", ["waxseald", "waxseal-agent"])
def test_arguments(lab, program):
    for arguments in (["--colour"], ["--config"], ["surplus"]):
        done = lab.appliance.run_program(program, *arguments)
        assert done.returncode in (1, 2) and done.stderr and "rror: Sanitizer" not in done.stderr
    done = lab.appliance.run_program(program, "--config", "/nonexistent.conf")
    assert done.returncode == 1 and "/nonexistent.conf" in done.stderr


def images(good):
    """{what is wrong: the bytes}."""
    def flipped(at):
        return good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
    return {"truncated": good[:-3], "empty": b"", "header alone": good[:64], "magic": flipped(0), "checksum": flipped(len(good) - 1),
            "in the middle": flipped(len(good) // 2), "longer": good + b"\0" * 64, "text": b"* level=encrypt\n" * 40,
            "huge counts": good[:64] + struct.pack("<QII", 2 ** 63, 2 ** 31, 1) + good[80:]}


def reply_to_mail(lab):
    with Dialogue(lab.client, ipv4("server", PLAIN)) as client:
        client.ehlo()
        return str(client.command("MAIL FROM:<a@b.example>"))


def test_a_bad_image_is_refused_and_the_last_good_one_stays(lab, xdp):
    lab.postfix
    xdp.rules(default=ENCRYPT)
    xdp.agent.terminate()
    xdp.agent.wait(10)
    good = xdp.image.read_bytes()
    try:
        for what, data in images(good).items():
            refused = xdp.status()["waxseald"]["images_refused"]
            temporary = xdp.image.with_suffix(".bad")
            temporary.write_bytes(data)
            temporary.rename(xdp.image)
            wait_for(f"{what} to be refused", lambda: xdp.status()["waxseald"]["images_refused"] > refused, 5)  # noqa: B023
            status = xdp.status()["waxseald"]
            assert str(xdp.image) in status["image_error"] or status["image_error"], what
            assert reply_to_mail(lab).startswith("451 4.7.4"), what
        temporary.write_bytes(good)
        temporary.rename(xdp.image)
        wait_for("the good one to be taken", lambda: not xdp.status()["waxseald"]["image_error"])
    finally:
        xdp.image.write_bytes(good)
        xdp.start_agent()


def test_no_start_without_a_good_image(stopped):
    good = stopped.image.read_bytes()
    stopped.agent.terminate()
    stopped.agent.wait(10)
    try:
        for what, data in images(good).items():
            stopped.image.write_bytes(data)
            done = stopped.run_program("waxseald", "--config", str(stopped.conf), timeout=30)
            lines = [line for line in done.stderr.splitlines() if line.startswith("waxseald:")]
            assert done.returncode == 1 and len(lines) == 1 and "image" in lines[0], (what, done.stderr)
    finally:
        stopped.image.write_bytes(good)
        stopped.start_agent()


def test_a_bad_rule_is_refused_alone(lab, both):
    lab.postfix
    both.rules(default=ENCRYPT)
    both.client.hset("waxseal:policy:*", "level", "encript")
    both.client.hset("waxseal:policy:good.example", "level", "block")
    wait_for("the refusal to be told", lambda: any(r["key"] == "waxseal:policy:*" for r in both.agent_state()["refused"]))
    assert reply_to_mail(lab).startswith("451 4.7.4")
    assert "waxseal:policy:*" in both.run_program("waxseal", "status", "--config", str(both.conf)).stdout
    both.rules(default=ENCRYPT)
