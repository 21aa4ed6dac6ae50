"""A record says what happened, and nothing else."""

from stats.record import AttemptRecord, RequestRecord, attempts_as_json, attempts_from_json

FAILED = AttemptRecord("wést", "id-west", "failure", 'status 500 "', 500, 0.25, 30.5)
GOOD = AttemptRecord("east", "id-east", "success", "", 200, 31.0, 100.0)


def record(outcome: str, *attempts: AttemptRecord) -> RequestRecord:
    return RequestRecord(
        request_id="r", at=1000.0, duration_ms=1500.0, operation="responses", outcome=outcome, attempts=[*attempts]
    )


def test_attempts_survive_the_database():
    assert attempts_from_json(attempts_as_json([FAILED, GOOD])) == [FAILED, GOOD]


def test_the_end_is_the_start_and_the_duration():
    assert record("success").ended_at == 1001.5


def test_a_request_is_troubled_when_it_or_an_attempt_failed():
    told = [record("failure"), record("success", FAILED, GOOD), record("success", GOOD), record("rejected")]
    assert [one.troubled for one in told] == [True, True, False, False]


def test_records_do_not_share_their_attempts():
    one, other = record("success"), RequestRecord(request_id="", at=0, duration_ms=0, operation="", outcome="success")
    one.attempts.append(GOOD)
    assert other.attempts == []
