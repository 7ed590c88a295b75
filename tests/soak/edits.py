"""Part `edits`: a rule among 100,000, changed by redis-cli, until the first session that goes by it: the whole way, from Redis
through the agent, the image and its swap in waxseald, to a mail client's RCPT."""
import os
import statistics
import subprocess
import time

from lab.dialogue import Dialogue
from lab.lab import SINKS, XDP, Lab
from lab.mta import wait_for
from lab.namespaces import ipv4

RULES = int(os.environ.get("WAXSEAL_RULES", 100_000))
CHANGES = int(os.environ.get("WAXSEAL_CHANGES", 100))
BATCH = 5000
PROMISED_S = 1.0


def load(appliance):
    pipe = appliance.client.pipeline(transaction=False)
    pipe.hset("waxseal:policy:*", mapping={"level": "may", "mode": "enforce"})
    pipe.hset("waxseal:policy:edit.example", mapping={"level": "encrypt"})
    for i in range(RULES):
        pipe.hset(f"waxseal:policy:d{i}.example", mapping={"level": "encrypt" if i % 2 else "verify", "owner": "somebody"})
        if i % BATCH == BATCH - 1:
            pipe.execute()
    pipe.execute()


def accepted(lab):
    """Does a new session in clear get its recipient through?"""
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        client.command("MAIL FROM:<a@b.example>")
        code = client.command("RCPT TO:<c@edit.example>").code
        client.quit()
    return code == 250


def run():
    with Lab(f"edits{os.getpid()}") as lab:
        appliance = lab.start_appliance(XDP, dns_enabled="no", dataplane_memory_mb="256")
        lab.sink(SINKS, starttls="none")
        load(appliance)
        wait_for("all rules in the image", lambda: appliance.agent_state()["image"]["rules"] >= RULES + 2, 300, 0.1)
        wait_for("the rule in force", lambda: not accepted(lab), 60, 0.05)
        took = []
        for i in range(CHANGES):
            level, wanted = ("may", True) if i % 2 == 0 else ("encrypt", False)
            subprocess.run(["redis-cli", "-s", str(appliance.redis_socket), "HSET", "waxseal:policy:edit.example", "level", level],
                           check=True, stdout=subprocess.DEVNULL)
            began = time.monotonic()
            wait_for(f"change {i} in force", lambda: accepted(lab) == wanted, 60, 0.001)
            took.append(time.monotonic() - began)
    took.sort()
    p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
    print(f"edits: {CHANGES} changes among {RULES} rules, from redis-cli to a session: p50 {statistics.median(took):.3f} s, "
          f"p99 {p99:.3f} s, most {took[-1]:.3f} s; promised {PROMISED_S:.0f} s", flush=True)
