"""waxseal, the operator's command: status, counters and flows, policy, explain, completion; and the agent's /metrics."""
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from control_box import BUILD, ROOT, box, image_rules, live, until, waxseald  # noqa: F401

pytestmark = pytest.mark.sanitize


def test_status_when_all_is_well(waxseald, live):
    done = live.run("status")
    assert "Nothing is wrong." in done.stdout
    assert "\033" not in done.stdout
    for part in ("waxseald  up for 61 min, version 0.1", "image     generation", "1 domains", "agent     Redis live", "redis     unix:",
                 "inside   in0   net_af_xdp  up", "0  2 of 65536", "1 of 4096"):
        assert part in done.stdout, done.stdout
    status = json.loads(live.run("status", "--json").stdout)
    assert status["ok"] and not status["warnings"]
    assert status["waxseald"]["generation"] == 7 and len(status["ports"]) == 2 and len(status["workers"]) == 1
    assert status["agent"]["redis"]["state"] == "live"


@pytest.mark.alone
def test_status_names_what_is_down(waxseald, live):
    live.agent.send_signal(signal.SIGSTOP)
    time.sleep(6)
    assert "has not been heard of" in live.run("status", code=1).stdout
    live.agent.send_signal(signal.SIGCONT)
    until("well again", lambda: json.loads(live.state.read_text())["heartbeat_ms"] > time.time() * 1000 - 1500)
    live.run("status")
    live.stop_agent()
    assert "waxseal-agent was stopped" in live.run("status", code=1).stdout
    live.image.write_bytes(live.image.read_bytes()[:-3])
    assert "no usable policy image" in live.run("status", code=1).stdout
    waxseald.mute = True
    start = time.monotonic()
    assert "does not answer within" in live.run("status", code=1).stdout
    assert time.monotonic() - start < 4


def test_counters(waxseald, box):
    done = box.run("counters")
    assert "DESTINATION  SEALED  UPGRADED  CLEAR  DEFERRED  REJECTED  CUT" in done.stdout
    assert "certificate is for another name" in done.stdout
    assert "drop_checksum" in done.stdout and "injections" not in done.stdout
    assert "Still unencrypted: 2 of 11 sessions that carried mail (18.2 %), 3 recipients." in done.stdout
    assert "policy allows clear text (2)" in done.stdout
    numbers = json.loads(box.run("counters", "--json").stdout)
    assert numbers["counters"]["rx_packets"] == 21 and [d["name"] for d in numbers["destinations"]] == ["*", "goo\"gle"]
    done = box.run("counters", 'goo"gle')
    assert "versions.TLSv1.3" in done.stdout and "No mail travels unencrypted" in done.stdout
    assert "nothing counted under this name" in box.run("counters", "nobody", code=1).stderr


def test_counters_watch(waxseald, box):
    # As from a terminal: what a shell starts in the background, these tests perhaps, ignores SIGINT.
    process = subprocess.Popen([BUILD / "waxseal", "counters", "--watch", "--config", box.conf], stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert lines[0].startswith("DESTINATION")


def test_flows(waxseald, box):
    done = box.run("flows")
    assert "10.77.0.2:4000" in done.stdout and "TAKEN" in done.stdout and len(done.stdout.splitlines()) == 4
    told = json.loads(box.run("flows", "--json").stdout)
    assert [flow["id"] for flow in told] == [1, 2, 3] and told[0]["bytes_server"] == 6 and told[2]["state"] == "CLEAR"
    first, empty = waxseald.answers["/waxseal/flows,0"], {name: [] for name in waxseald.answers["/waxseal/flows,0"]} | {"next": 0, "silent": 0}
    waxseald.answers["/waxseal/flows,0"] = empty
    assert "no connections" in box.run("flows").stdout and json.loads(box.run("flows", "--json").stdout) == []
    waxseald.answers["/waxseal/flows,0"] = empty | {"next": 7}  # a part of the table without any
    assert [flow["id"] for flow in json.loads(box.run("flows", "--json").stdout)] == [2, 3]
    waxseald.answers["/waxseal/flows,0"] = first | {"silent": 1}
    done = box.run("flows", code=1)
    assert "a worker does not answer" in done.stderr and "10.77.0.2:4002" in done.stdout
    for wrong in (first | {"rule": []}, first | {"state": 5}, {"next": 0}, {**waxseald.answers["/waxseal/flows,7"], "next": 0, "id": [1]}):
        waxseald.answers["/waxseal/flows,0"] = wrong
        assert "is no page of connections" in box.run("flows", code=1).stderr
    waxseald.answers["/waxseal/flows,0"] = first
    waxseald.answers["/waxseal/flows,7"] = {**waxseald.answers["/waxseal/flows,7"], "next": 7}  # round and round
    assert "is no page of connections" in box.run("flows", code=1).stderr


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"/waxseal/counters": 3}', b'{"/waxseal/counters": null}', b"\xff\xfe", b"x" * 60000])
def test_nonsense_from_telemetry(waxseald, box, answer):
    waxseald.answers["/waxseal/counters"] = answer or b"{}"
    waxseald.answers["/waxseal/destination,0"] = answer or b"{}"
    done = subprocess.run([BUILD / "waxseal", "counters", "--config", box.conf], capture_output=True, text=True, timeout=10)
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or done.stderr.count("\n") == 1


def test_without_waxseald(box):
    for command in ("counters", "flows"):
        done = box.run(command, code=1)
        assert "waxseald is not running" in done.stderr and done.stderr.count("\n") == 1
    assert "waxseald is down" in box.run("status", code=1).stdout


def scrape(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


@pytest.mark.alone
def test_metrics(waxseald, box):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        box.metrics_port = probe.getsockname()[1]
    box.configure()
    box.start_redis()
    box.client.hset("waxseal:policy:m.example", mapping={"level": "block"})
    box.client.hset("waxseal:policy:bad.example", mapping={"level": "?"})
    box.start_agent()
    until("metrics of one rule", lambda: "waxseal_agent_rules 1\n" in scrape(box.metrics_port))
    text = scrape(box.metrics_port)
    for line in ("waxseal_agent_redis_up 1", "waxseal_agent_rules_refused 1", "waxseal_agent_empty_refused 0", "waxseal_up 1",
                 "waxseal_rx_packets_total 21", 'waxseal_worker_flows{worker="0"} 2', 'waxseal_port_link_up{port="1"} 1',
                 'waxseal_sessions_total{destination="*",direction="outbound",end="sealed"} 5',
                 'waxseal_decisions_total{destination="goo\\"gle",reason="name-mismatch"} 1',
                 'waxseal_tls_versions_total{destination="goo\\"gle",version="TLSv1.3"} 4',
                 'waxseal_bytes_total{destination="*"} 1000'):
        assert line + "\n" in text, text
    names = [line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    order = list(dict.fromkeys(names))
    assert [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n] == order, "samples of one metric stand together"
    with pytest.raises(urllib.error.HTTPError) as wrong:
        scrape(box.metrics_port, "/")
    assert wrong.value.code == 404
    waxseald.mute = True
    assert "waxseal_up 0\n" in scrape(box.metrics_port)
    assert until("the agent goes on meanwhile", lambda: box.redis_state() == "live") < 1.0


def test_policy_set_show_list_rm(box):
    box.start_redis()
    assert "no rules" in box.run("policy", "list").stdout
    assert box.run("policy", "set", "Example.ORG", "level=verify", "match=mx.example.org:.example.org").stdout == \
        "example.org level=verify match=mx.example.org:.example.org\n"
    box.run("policy", "set", "example.org", "mode=observe", "reason=a bank, until May")
    assert box.client.hgetall("waxseal:policy:example.org") == {
        "level": "verify", "match": "mx.example.org:.example.org", "mode": "observe", "reason": "a bank, until May"}
    assert box.client.get("waxseal:generation") == "2"
    box.run("policy", "set", "example.org", "mode=", "level=encrypt", "match=")
    assert box.client.hgetall("waxseal:policy:example.org") == {"level": "encrypt", "reason": "a bank, until May"}

    before = box.client.hgetall("waxseal:policy:example.org")
    for bad in (["level=encript"], ["colour=red"], ["level=verify", "percent=101"], ["protocols=>=SSLv9"]):
        done = box.run("policy", "set", "example.org", *bad, code=1)
        assert bad[-1].split("=")[0] in done.stderr and done.stderr.count("\n") == 1
    assert "example.org" in box.run("policy", "set", "exa mple.org", "level=may", code=1).stderr.replace("exa mple.org", "example.org")
    assert box.client.hgetall("waxseal:policy:example.org") == before
    assert box.client.get("waxseal:generation") == "3"

    box.run("policy", "set", "*", "encrypt", "on_fail=reject")
    box.run("policy", "set", "provider:lab", "nets=10.77.0.0/16,fd77::/16", "level=may")
    box.client.hset("waxseal:policy:broken.example", mapping={"level": "x"})
    done = box.run("policy", "list")
    assert done.stdout.splitlines()[0].split() == ["KEY", "LEVEL", "MODE", "OTHER", "ATTRIBUTES"]
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["*", "broken.example", "example.org", "provider:lab"]
    assert "waxseal:policy:broken.example: refused" in done.stderr
    listed = {rule["key"]: rule for rule in json.loads(box.run("policy", "list", "--json").stdout)}
    assert listed["*"]["attributes"] == {"level": "encrypt", "on_fail": "reject"} and listed["*"]["error"] is None
    assert listed["broken.example"]["error"]
    shown = json.loads(box.run("policy", "show", "example.org", "--json").stdout)
    assert shown["attributes"]["reason"] == "a bank, until May"
    assert "a bank, until May" in box.run("policy", "show", "example.org").stdout

    box.run("policy", "rm", "example.org")
    assert not box.client.exists("waxseal:policy:example.org")
    assert box.client.get("waxseal:generation") == "6"
    assert "no such rule" in box.run("policy", "rm", "example.org", code=1).stderr
    assert "no such rule" in box.run("policy", "show", "example.org", code=1).stderr
    box.client.hset("waxseal:policy:not a domain", mapping={"level": "may"})
    box.run("policy", "rm", "not a domain")
    assert not box.client.exists("waxseal:policy:not a domain")


def test_concurrent_writers_lose_nothing(box):
    box.start_redis()
    attributes = [f"{name}={value}" for name, value in
                  (("level", "encrypt"), ("mode", "observe"), ("percent", "50"), ("on_fail", "reject"), ("owner", "o"), ("reason", "r"))]
    box.client.hset("waxseal:policy:w.example", "level", "may")
    writers = [subprocess.Popen([BUILD / "waxseal", "policy", "set", "w.example", a, "--config", box.conf], stdout=subprocess.DEVNULL)
               for a in attributes]
    codes = [w.wait(20) for w in writers]
    stored = box.client.hgetall("waxseal:policy:w.example")
    for code, attribute in zip(codes, attributes):
        name, value = attribute.split("=")
        assert code == 0 and stored[name] == value


def test_check_and_compile(box):
    rules = box.folder / "rules.txt"
    rules.write_text("# the bank\n\nexample.org level=verify match=mx.example.org reason=\"two words\"\n"
                     "* level=encrypt\nprovider:lab level=block nets=10.77.9.0/24\n")
    assert "3 rules" in box.run("policy", "check", str(rules)).stdout
    assert not box.image.exists()
    box.run("policy", "compile", str(rules))
    assert box.level("example.org") == "verify" and box.level("*") == "encrypt"
    other = box.folder / "other.image"
    assert json.loads(box.run("policy", "compile", str(rules), "-o", str(other), "--json").stdout)["rules"] == 3
    assert image_rules(other)[0]["*"]["level"] == "encrypt"

    good = box.image.read_bytes()
    rules.write_text("example.org level=verifi\n* level=encrypt\nexample.net colour=red\n")
    done = box.run("policy", "compile", str(rules), code=1)
    assert f"{rules}:1:" in done.stderr and f"{rules}:3:" in done.stderr and "2 bad lines" in done.stderr
    assert box.image.read_bytes() == good
    assert "No such file" in box.run("policy", "check", "/nonexistent/rules", code=1).stderr
    rules.write_text("* level=may\n")
    assert "nonexistent" in box.run("policy", "compile", str(rules), "-o", "/nonexistent/x", code=1).stderr

    assert box.run("policy", "check", "--rule", "example.org verify match=mx.example.org").stdout.startswith("example.org level=verify ")
    assert "match" in box.run("policy", "check", "--rule", "example.org level=verify match=bad..name", code=1).stderr
    assert box.run("policy", "check", "--rule", "", code=1).stderr.count("\n") == 1


def test_usage(box):
    for command in (["policy", "set"], ["policy", "show"], ["policy", "list"], ["policy", "rm"], ["policy", "compile"], ["policy", "check"],
                    ["counters"], ["fleet"], ["flows"], ["status"]):
        done = box.run(*command, "--help")
        assert done.stdout.startswith("usage: waxseal " + " ".join(command)) and not done.stderr
    assert "waxseal policy set" in box.run("--help").stdout
    for wrong in ([], ["polici"], ["policy"], ["policy", "sett"], ["policy", "set"], ["policy", "set", "k", "level=may", "=x"],
                  ["policy", "set", "k", "level=may", "level=none"], ["policy", "rm"], ["policy", "check"], ["flows", "x"], ["fleet", "x"],
                  ["counters", "--wach"], ["status", "--x"], ["policy", "compile", "-o"]):
        done = box.run(*wrong, code=2)
        assert done.stderr.startswith("waxseal: ") and not done.stdout
    box.conf.write_text("[redis]\naddress = x\n")
    assert "waxseal.conf:2:" in box.run("policy", "list", code=1).stderr


def test_unreachable_redis(box):
    for command in (["policy", "list"], ["policy", "set", "a.example", "may"], ["policy", "rm", "a.example"], ["policy", "show", "a.example"]):
        done = box.run(*command, code=1)
        assert "redis.sock" in done.stderr and done.stderr.count("\n") == 1


def test_explain(box):
    rules = box.folder / "rules.txt"
    rules.write_text("* may\nexample.org verify\n.example.org encrypt\nprovider:lab level=block nets=10.77.9.0/24\n")
    assert "No such file" in box.run("explain", "example.org", code=1).stderr
    box.run("policy", "compile", str(rules))
    lines = box.run("explain", "User@Example.ORG").stdout.splitlines()
    assert lines[1].split()[:3] == ["wins", "example.org", "verify"] and lines[2].split()[:2] == ["loses", "*"]
    told = json.loads(box.run("explain", "a.example.org", "10.77.9.1", "--json").stdout)
    assert [r["rule"] for r in told["rules"]] == [".example.org", "lab", "*"]
    assert [r["wins"] for r in told["rules"]] == [True, False, False]
    assert json.loads(box.run("explain", "10.77.9.1", "--json").stdout)["rules"][0]["level"] == "block"
    for wrong in ([], ["a.example", "b.example"], ["10.0.0.1", "10.0.0.2"], ["--all"], ["a.example", "10.0.0.1", "x"]):
        assert box.run("explain", *wrong, code=2).stderr.count("\n") == 1
    for wrong in ("a..b", "*", ".example.org", "provider:lab", "user@", "inbound:*"):
        assert box.run("explain", wrong, code=1).stderr.count("\n") == 1


def test_fleet(waxseald, live):
    until("the appliance is there", lambda: live.client.hget(f"waxseal:appliance:{live.folder.name[:60]}", "waxseald") == "up")
    waxseald.answers["/waxseal/status"] |= {"generation": json.loads(live.state.read_text())["image"]["generation"]}
    until("in step", lambda: live.client.hget(f"waxseal:appliance:{live.folder.name[:60]}", "lag_s") == "0")
    mine = json.loads(live.run("fleet", "--json").stdout)["appliances"]
    assert [a["id"] for a in mine] == [live.folder.name[:60]] and mine[0]["flows"] == "2" and mine[0]["state"] == "up"
    assert mine[0]["rules"] == "1" and mine[0]["silent_s"] <= 4
    live.client.hset("waxseal:appliance:gone", mapping={"waxseald": "up", "version": "\033[2J0.0", "generation": "5", "flows": "x"})
    live.client.expire("waxseal:appliance:gone", 3000)
    live.client.set("waxseal:appliance:nohash", "x")
    done = live.run("fleet", code=1)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["APPLIANCE", "STATE", "HEARD"] and len(lines) == 3
    assert lines[1].split()[:5] == ["gone", "silent", "10", "min", "ago"] and "\033" not in done.stdout
    waxseald.mute = True
    until("it tells that waxseald is down", lambda: live.client.hget(f"waxseal:appliance:{live.folder.name[:60]}", "waxseald") == "down")
    live.client.delete("waxseal:appliance:gone")
    assert " down " in live.run("fleet", code=1).stdout
    live.stop_agent()
    live.client.flushall()
    assert "No appliance has told" in live.run("fleet", code=1).stdout


def complete(*words):
    """What bash offers for the last word."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _waxseal 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", ROOT / "control/cli/waxseal.bash-completion", *map(str, words)],
                          capture_output=True, text=True, timeout=20, check=False)
    return set(done.stdout.split())


def test_completion_knows_every_command_and_attribute(box):
    program = BUILD / "waxseal"
    usage = [line.split()[1:] for line in box.run("--help").stdout.splitlines() if line.startswith("  waxseal ") and "COMMAND" not in line]
    assert {words[0] for words in usage} <= complete(program, "")
    policy = {words[1] for words in usage if words[0] == "policy"}
    assert policy and policy == {word for word in complete(program, "policy", "") if not word.startswith("-")}
    message = box.run("policy", "check", "--rule", "example.org colour=red", code=1).stderr
    attributes = message.split("one of ")[1].split()
    offered = {word.rstrip("=") for word in complete(program, "policy", "set", "example.org", "")}
    assert len(attributes) > 15 and set(attributes) == offered
    for name in ("level", "mode", "on_fail", "e2e", "unknown", "nonsmtp", "overload", "stripped"):
        message = box.run("policy", "check", "--rule", f"example.org {name}=?", code=1).stderr
        words = set(message.split("one of ")[1].split())
        assert words == {word.split("=")[-1] for word in complete(program, "policy", "set", "example.org", f"{name}=")}, name
    shown = box.run("policy", "set", "--help").stdout
    assert all(f"\n  {name} " in shown for name in attributes)
