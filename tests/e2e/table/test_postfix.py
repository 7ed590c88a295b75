"""The rows that Postfix can be given, to its smtp client by smtp_tls_policy_maps, against the same servers and the same DNS.

Same decision in each: delivered in TLS, delivered in clear, or deferred. Where a row's last column is a word, Postfix
comes to that instead, and README.md of this folder says why.
"""
import pathlib

import pytest

from lab.mta import Message
from lab.postfix import PostfixPolicyClient
from table_rows import ROWS

GIVEN = [row for row in ROWS if row.postfix]
GIVEN_LEAST = 40
DECISIONS = {"upgraded": "tls", "sealed": "tls", "clear": "clear", "deferred": "deferred", "rejected": "bounced"}
README = pathlib.Path(__file__).with_name("README.md")


def policy_of(scene, row):
    """The row's rule as a line of a Postfix policy table."""
    rule = scene.fill(row.rule.split(" ; ")[0], row)
    words = dict(word.partition("=")[::2] for word in rule.rpartition(": ")[2].split())
    words.pop("nets", None)
    level = words.pop("level")
    pins = words.pop("fingerprints", "")
    text = [level, *(f"{name}={value}" for name, value in words.items())]
    for pin in filter(None, pins.split(",")):
        digest = pin.partition(":")[2]
        text.append("match=" + ":".join(digest[i:i + 2] for i in range(0, len(digest), 2)))
    return " ".join(text)


@pytest.fixture(scope="module")
def decided(scene):
    """{row's id: (decision, what Postfix says)}."""
    client = PostfixPolicyClient(scene.lab.box, scene.lab.folder / "postfix-policy", scene.lab.zones.resolver, scene.lab.ca.file,
                                 {row.domain: policy_of(scene, row) for row in GIVEN})
    messages = {row.id: Message(200) for row in GIVEN}
    for row in GIVEN:
        client.send(messages[row.id], row.domain)
    found = {}
    for row in GIVEN:
        name = messages[row.id].name
        status, why = client.result(name)
        how = status
        if status == "sent":
            mail, = scene.arrived(row, name)
            how = "tls" if mail else "clear"
        found[row.id] = how, f"{policy_of(scene, row)}\n{why}\n" + "\n".join(
            line for line in client.log().splitlines() if row.host in line or name in line)
    return found


def test_as_many_rows_as_promised():
    assert len(GIVEN) >= GIVEN_LEAST


@pytest.mark.parametrize("row", GIVEN, ids=lambda row: row.id)
def test_same_decision(scene, decided, row):
    how, why = decided[row.id]
    if row.postfix == "=":
        assert how == DECISIONS[row.end], scene.report(row, f"Postfix comes to {how}: {why}")
    else:
        assert how == row.postfix, scene.report(row, f"Postfix comes to {how}: {why}")
        assert f"`{row.id}`" in README.read_text(), f"{README.name} does not say why Postfix comes to {how} in {row.id}"
