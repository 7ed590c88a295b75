"""Wires that lose, reorder and double packets both ways: upgraded mail arrives byte for byte, all of it, once.

WAXSEAL_MAILS sets how many; `make soak` sends 200. A failure names the seed: SEED=n replays the wires' side of it.
"""
import os

from lab import lossy

MAILS = int(os.environ.get("WAXSEAL_MAILS", 20))
SIZE = 1_000_000


def test_upgraded_mail_over_lossy_wires(lab):
    seed = lossy.seed()
    print(f"\nSEED={seed}")
    lab.postfix
    with lab.impaired(**lossy.bad_wires(seed)) as impairers:
        appliance = lab.start_appliance()
        appliance.rules(count=True, default={"level": "encrypt", "mode": "enforce"})
        messages, _ = lossy.send(lab, MAILS, SIZE)
        lossy.arrived(lab, messages, over_tls=True)
        appliance.counted(60, upgraded=MAILS)
        lab.end_appliance()
        lossy.impairments_happened(impairers)


def test_postfix_to_postfix_over_lossy_wires(lab):
    """The client is a real mail server, too: its own retries would show as duplicates."""
    seed = lossy.seed()
    print(f"\nSEED={seed}")
    client = lab.postfix_client
    with lab.impaired(**lossy.bad_wires(seed)) as impairers:
        appliance = lab.start_appliance()
        appliance.rules(default={"level": "encrypt", "mode": "enforce"})
        messages = [lossy.Message(SIZE, seed=i % lossy.BODIES) for i in range(MAILS // 4)]
        recipients = [client.send(message, lossy.ipv4("server", lossy.TLS)) for message in messages]
        for recipient in recipients:
            status, reply = client.result(recipient, 120)
            assert status == "sent", reply
        lossy.arrived(lab, messages, over_tls=True)
        lab.end_appliance()
        lossy.impairments_happened(impairers)
