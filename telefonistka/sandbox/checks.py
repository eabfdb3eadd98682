"""REST: check runs, which only an App makes. https://docs.github.com/en/rest/checks/runs"""

from __future__ import annotations

from typing import Any

from telefonistka.sandbox import objects
from telefonistka.sandbox.gitdata import REPO, commit_of
from telefonistka.sandbox.odb import OBJECT_ID
from telefonistka.sandbox.rest import Answer, Ask, Refused, invalid, not_found, route, want
from telefonistka.sandbox.state import App, CheckRun, now

RUN = REPO + "/check-runs/{check_run_id}"
STATUSES = ("queued", "in_progress", "completed")
CONCLUSIONS = ("action_required", "cancelled", "failure", "neutral", "success", "skipped", "stale", "timed_out")
LEVELS = ("notice", "warning", "failure")
ANNOTATIONS = 50  # of one request
LIMIT = 65_535  # characters of a text


@route("POST", REPO + "/check-runs", "checks:write")
async def create_run(ask: Ask) -> Answer:
    app, fields = caller(ask), await ask.json()
    sha = want(fields, "head_sha", str, resource="CheckRun")
    if not OBJECT_ID.fullmatch(sha) or not ask.repo.git.is_a("commit", sha):
        raise Refused(422, f"No commit found for SHA: {sha}")
    run = CheckRun(id=ask.box.next_id(), app=app, sha=sha, name=want(fields, "name", str, resource="CheckRun"))
    change(run, fields)
    ask.repo.check_runs[run.id] = run
    shown = objects.check_run(ask.box, ask.repo, run)
    return Answer(shown, 201, {"Location": shown["url"]})


@route("PATCH", RUN, "checks:write")
async def update_run(ask: Ask) -> Answer:
    run = find(ask)
    if run.app is not caller(ask):
        raise Refused(403, "Invalid app_id - check run can only be modified by the GitHub App that created it.")
    change(run, await ask.json())
    return Answer(objects.check_run(ask.box, ask.repo, run))


@route("GET", RUN, "checks:read")
async def get_run(ask: Ask) -> Answer:
    return Answer(objects.check_run(ask.box, ask.repo, find(ask)))


@route("GET", RUN + "/annotations", "checks:read")
async def list_annotations(ask: Ask) -> Answer:
    part, headers = ask.page(find(ask).annotations)
    return Answer(list(part), headers=headers)


@route("GET", REPO + "/commits/{ref:.+}/check-runs", "checks:read")
async def list_runs(ask: Ask) -> Answer:
    """The newest of each App and name; `filter=all` is not asked for by anybody here."""
    sha, name = commit_of(ask, ask.path("ref")), ask.query("check_name")
    newest = {(run.app.id, run.name): run for run in ask.repo.check_runs.values() if run.sha == sha}
    chosen = [run for run in newest.values() if name in ("", run.name)]
    part, headers = ask.page(chosen)
    shown = [objects.check_run(ask.box, ask.repo, run) for run in part]
    return Answer({"total_count": len(chosen), "check_runs": shown}, headers=headers)


def caller(ask: Ask) -> App:
    """The App that asks. Raises the 403 of everybody else."""
    installation = ask.identity.token.installation if ask.identity.token is not None else None
    if installation is None:
        raise Refused(403, "You must authenticate via a GitHub App.")
    return installation.app


def find(ask: Ask) -> CheckRun:
    run = ask.repo.check_runs.get(ask.number("check_run_id"))
    if run is None:
        raise not_found()
    return run


def change(run: CheckRun, fields: dict[str, Any]) -> None:
    """The run says what the fields say; annotations are added to those that it has."""
    status, conclusion = fields.get("status", run.status), fields.get("conclusion")
    if status not in STATUSES or (conclusion is not None and conclusion not in CONCLUSIONS):
        raise invalid("CheckRun", "status")
    if status == "completed" and conclusion is None and run.conclusion is None:
        raise invalid("CheckRun", "conclusion", code="missing_field")
    output = fields.get("output") or {}
    added = output.get("annotations") or []
    if output and (not isinstance(output.get("title"), str) or not isinstance(output.get("summary"), str)):
        raise invalid("CheckRun", "output", code="missing_field")
    if len(added) > ANNOTATIONS or not all(map(is_annotation, added)):
        raise invalid("CheckRun", "annotations")
    if any(len(output.get(name) or "") > LIMIT for name in ("summary", "text")):
        raise invalid("CheckRun", "output", message=f"is too long (maximum is {LIMIT} characters)")
    run.status = "completed" if conclusion is not None else status
    run.conclusion = conclusion or run.conclusion
    run.external_id = fields.get("external_id", run.external_id)
    run.details_url = fields.get("details_url", run.details_url)
    run.title, run.summary = output.get("title", run.title), output.get("summary", run.summary)
    run.text = output.get("text", run.text)
    run.annotations += [ANNOTATION | {"blob_href": ""} | one for one in added]
    run.started_at = run.started_at or now()
    run.completed_at = now() if run.status == "completed" else None


ANNOTATION: dict[str, Any] = {"start_column": None, "end_column": None, "title": None, "raw_details": None}


def is_annotation(one: Any) -> bool:
    if not isinstance(one, dict) or one.get("annotation_level") not in LEVELS:
        return False
    lines = one.get("start_line"), one.get("end_line")
    columns = "start_column" in one or "end_column" in one
    # Columns are only taken on one line.
    return all(isinstance(line, int) for line in lines) and not (columns and lines[0] != lines[1])
