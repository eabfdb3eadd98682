"""Every GraphQL document that our code holds is one that GitHub understands."""

from __future__ import annotations

from pathlib import Path

import telefonistka
from tests.contract import schemas

GITHUB = Path(telefonistka.__file__).parent / "github"


def test_every_query_fits_githubs_schema() -> None:
    """Names, arguments and types. What is put together at run time is checked by recorder.py as it is sent."""
    found = list(schemas.queries_in(sorted(GITHUB.glob("*.py"))))
    assert found, "the GitHub door reads by GraphQL"
    faults = {place: faults for place, query in found if (faults := schemas.query(query))}
    assert not faults


def test_a_misspelt_field_would_be_found() -> None:
    """The check itself can fail."""
    [fault] = schemas.query('query { repository(owner: "a", name: "b") { headRefOid } }')
    assert "Cannot query field 'headRefOid' on type 'Repository'" in fault


def test_an_ill_typed_request_would_be_found() -> None:
    """A misspelt field, a missing one and a wrong type are three faults."""
    faults = schemas.request("POST", "/repos/acme/iac/pulls", body={"titel": "x", "head": 1})
    assert len(faults) == 3


def test_an_undescribed_call_would_be_found() -> None:
    """A path that GitHub does not have is a fault."""
    assert schemas.request("GET", "/repos/acme/iac/pull/1")


def test_an_incomplete_answer_would_be_found() -> None:
    """GitHub promises more of a ref than its name."""
    assert schemas.response("GET", "/repos/acme/iac/git/ref/heads/main", 200, {"ref": "refs/heads/main"})
