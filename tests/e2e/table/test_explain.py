"""waxseal explain, asked about each row's recipient, server and client, answers what then really happened."""
import pytest

from table_rows import ROWS

pytestmark = pytest.mark.sanitize

OWN_TLS = ("tls", "tls1.2", "tls1.1", "inbound-tls")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_explain(scene, row):
    told = scene.ran[row.id].explained = scene.explain(row)
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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_foretold(scene, row):
    """Before anybody had sent anything: right where it is sure or a probe has seen the server's TLS, else it says that it assumes."""
    server = scene.ran[row.id].foretold["answers"][0]
    own_tls = row.client[0] in OWN_TLS
    answer = server["own_tls" if own_tls else "in_clear"]
    if answer["assumed"] and not server.get("probe", {}).get("version"):
        assert server["offered"] == "assumed", scene.report(row, f"foretold without a word of doubt: {server}")
    elif "servername=" in row.rule:  # a probe names the MX in SNI, and may have been shown another certificate
        assert server["probe"]
    elif len(row.replies) == 1 and not (own_tls and row.end == "cut" and row.counters[0] == "version"):  # nobody knows the client's version
        told = answer["outcome"], answer["reply"][:len(row.replies[0])] if not own_tls else ""
        reply = "" if own_tls or row.replies[0] == "250" else row.replies[0]
        assert told == ("sealed" if row.end == "nothing" else row.end, reply), scene.report(row, f"foretold: {server}")
