"""Part `flows`: a million sealed sessions through waxseald, then a flood of SYNs for a minute, while real sessions go on
and new ones come. Memory stays within the configured limits; the books are closed to the last frame."""
import os

from lab import pressure
from lab.lab import Lab

SESSIONS = int(os.environ.get("WAXSEAL_SESSIONS", 1_000_000))
FLOOD_SECONDS = float(os.environ.get("WAXSEAL_FLOOD_S", 60))
ESTABLISHED = 20
MEMORY_MB = 768


def megabytes(n):
    return f"{n / 1e6:.0f} MB"


def run():
    flows = SESSIONS + SESSIONS // 10
    with Lab(f"soak{os.getpid()}") as lab:
        lab.appliance.start_control()
        appliance = lab.start_appliance(limits_flows=str(flows), dataplane_memory_mb=str(MEMORY_MB))
        appliance.rules(default={"level": "encrypt", "mode": "enforce"})
        empty = pressure.memory(appliance)
        print(f"flows: limits: flows = {flows}, memory_mb = {MEMORY_MB}; empty: {megabytes(empty['ordinary'])} ordinary, {megabytes(empty['huge'])} huge", flush=True)
        books = pressure.Books(lab)

        made = pressure.generate(lab, "sessions", SESSIONS)
        full = pressure.memory(appliance)
        table = pressure.telemetry(appliance, "/waxseal/worker,0")
        assert made["sessions"] == SESSIONS and table["flows"] >= SESSIONS, (made, table)
        place = (full["ordinary"] - empty["ordinary"]) / SESSIONS
        print(f"flows: {made['sessions']} sealed in {made['seconds']:.0f} s ({made['sent']} frames, {made['again']} of them again); table {table['flows']} "
              f"of {table['flows_max']}; {megabytes(full['ordinary'])} ordinary ({place:.0f} octets a session), {megabytes(full['huge'])} huge", flush=True)

        real = pressure.Sessions(lab, ESTABLISHED, sealed=lambda i: i % 2)
        real.start()
        flood = pressure.generate(lab, "syn", FLOOD_SECONDS)
        said = real.finish()
        after = pressure.memory(appliance)
        table = pressure.telemetry(appliance, "/waxseal/worker,0")
        print(f"flows: flood: {flood['sent']} SYNs in {flood['seconds']:.0f} s, {flood['sent'] / flood['seconds'] / 1000:.0f} thousand a second; "
              f"meanwhile {said['established']} established sessions answered {said['answers']} times (slowest {said['slowest_s']} s), "
              f"{said['new_mails']} new ones brought their mail, {said['new_broken']} were broken; table {table['flows']} of {table['flows_max']}; "
              f"{megabytes(after['ordinary'])} ordinary, {megabytes(after['huge'])} huge", flush=True)
        assert said["answers"] >= said["established"], said
        assert after["huge"] <= MEMORY_MB << 20, after
        # The rest of the table is what the flood can have; no session's memory but that of the real ones comes with it.
        assert after["ordinary"] - full["ordinary"] <= (flows - SESSIONS) * place * 2 + (16 << 20), (full, after)
        assert table["flows"] <= flows

        again = pressure.generate(lab, "records", SESSIONS)
        assert again["sessions"] == SESSIONS, again
        found = books.close()
        assert not found["flows_refused"], found
        print(f"flows: records of all {again['sessions']} sealed sessions passed both ways afterwards", flush=True)
        print(f"flows: wire: in0 and out0 got {found['received'] + books.passed + books.missed} frames = {found['received']} to waxseald + {books.passed} passed in "
              f"the kernel + {books.missed} that its full ring missed; the generators sent {made['sent'] + flood['sent'] + again['sent']}, the rest is real sessions'")
        print(f"flows: waxseald: rx {found['rx_packets']} + built {found['built_packets']} + split {found['split_segments']} = tx {found['tx_packets']} + taken "
              f"{found['taken_packets']} + refused {found['flows_refused'] + found['flows_refused_prefix']} + dropped {sum(found['drops'].values())} {found['drops']}; "
              f"sent by the ports {found['sent']} = tx - {found['unsent_port']} that did not fit; evicted {found['flows_evicted']}", flush=True)
