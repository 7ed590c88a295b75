"""waxseal explain, asked about each row's recipient, server and client, answers what then really happened."""
import pytest

from table_rows import ROWS

pytestmark = pytest.mark.sanitize

OWN_TLS = ("tls", "tls1.2", "tls1.1", "inbound-tls")


def explain(scene, row):
    told = scene.appliance.command("explain", f"user@{row.domain}", scene.address(row), "--client", scene.client_address(row),
                                   *(["--inbound"] if row.inbound else []), "--json")
    scene.ran[row.id].explained = told
    return told


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_explain(scene, row):
    told = explain(scene, row)
    assert [server["server"] for server in told["answers"]] == [scene.address(row)]
    answer = told["answers"][0]["own_tls" if row.client[0] in OWN_TLS else "in_clear"]

    def same(what, got, wanted):
        assert got == wanted, scene.report(row, f"explain, {what}: {got}, not {wanted}")
    if row.client[0] in OWN_TLS:
        same("outcome", answer["outcome"], "sealed" if row.end == "nothing" else row.end)
        return
    replies = row.replies
    if len(replies) > 1:
        replies = [replies[scene.recipients(row).index(row.domain)]]
    else:
        same("outcome", answer["outcome"], row.end)
    same("reply", answer["reply"][:len(replies[0])], "" if replies[0].startswith("250") else replies[0])
    if answer["reply"] and row.result and len(row.replies) == 1:
        same("result type", answer.get("result_type", ""), row.result)
    if scene.ran[row.id].event and len(row.replies) == 1 and row.end in ("deferred", "rejected"):
        same("rule", answer["rule"], scene.ran[row.id].event["rule"])
        assert told["failures"] and told["failures"][-1]["reason"] == answer["reason"], scene.report(row, "explain: not among the failures")
