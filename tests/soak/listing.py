"""Part `listing`: `waxseal flows` over a table of 200,000 sealed sessions, while real sessions go on: each flow once, and how long it takes."""
import json
import os
import time

from lab import pressure
from lab.lab import Lab

SESSIONS = int(os.environ.get("WAXSEAL_SESSIONS", 200_000))
ESTABLISHED = 10
MEMORY_MB = 256 + SESSIONS // 2000
PATIENCE = 600


def run():
    with Lab(f"soak{os.getpid()}") as lab:
        lab.appliance.start_control()
        appliance = lab.start_appliance(limits_flows=str(SESSIONS + SESSIONS // 10), dataplane_memory_mb=str(MEMORY_MB))
        appliance.rules(default={"level": "encrypt", "mode": "enforce"})
        made = pressure.generate(lab, "sessions", SESSIONS)
        assert made["sessions"] == SESSIONS, made
        real = pressure.Sessions(lab, ESTABLISHED, sealed=lambda i: i % 2)
        real.start()
        began = time.monotonic()
        shown = appliance.run_program("waxseal", "flows", "--json", "--config", appliance.conf, timeout=PATIENCE)
        seconds = time.monotonic() - began
        said = real.finish()
        assert shown.returncode == 0, shown.stderr
        listed = json.loads(shown.stdout)
        ids = {flow["id"] for flow in listed}
        sealed = sum(flow["state"] == "sealed" for flow in listed)
        print(f"listing: {len(listed)} flows in {seconds:.2f} s ({len(listed) / seconds / 1000:.0f} thousand a second), {sealed} of them sealed; meanwhile "
              f"{said['established']} established sessions answered {said['answers']} times (slowest {said['slowest_s']} s)", flush=True)
        assert len(ids) == len(listed) and sealed >= SESSIONS, (len(ids), len(listed), sealed)
        assert said["answers"] >= said["established"], said
