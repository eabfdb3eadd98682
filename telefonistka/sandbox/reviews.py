"""REST: reviews, and asking for them. https://docs.github.com/en/rest/pulls/reviews"""

from __future__ import annotations

from telefonistka.sandbox import objects
from telefonistka.sandbox.gitdata import REPO
from telefonistka.sandbox.pulls import BODY_LIMIT
from telefonistka.sandbox.rest import Answer, Ask, Refused, invalid, not_found, route, texts, want
from telefonistka.sandbox.state import Access, Pull, Review, User, now

PULL = REPO + "/pulls/{number}"
STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}


@route("GET", PULL + "/reviews", "pull_requests:read")
async def list_reviews(ask: Ask) -> Answer:
    pull = ask.pull()
    part, headers = ask.page(list(pull.reviews.values()))
    return Answer([objects.review(ask.box, ask.repo, pull, one) for one in part], headers=headers)


@route("GET", PULL + "/reviews/{review_id}", "pull_requests:read")
async def get_review(ask: Ask) -> Answer:
    pull = ask.pull()
    return Answer(objects.review(ask.box, ask.repo, pull, found(ask, pull)))


def found(ask: Ask, pull: Pull) -> Review:
    review = pull.reviews.get(ask.number("review_id"))
    if review is None:
        raise not_found()
    return review


@route("POST", PULL + "/reviews", "pull_requests:write")
async def create_review(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/pulls/reviews#create-a-review-for-a-pull-request"""
    fields, pull = await ask.json(), ask.pull()
    event = want(fields, "event", str, resource="PullRequestReview", default="COMMENT")
    body = want(fields, "body", str, resource="PullRequestReview", default="")
    if event not in STATES:
        raise invalid("PullRequestReview", "event")
    if event != "COMMENT" and ask.user is pull.user:
        what = "approve" if event == "APPROVE" else "request changes on"
        raise Refused(422, "Unprocessable Entity", errors=[f"Can not {what} your own pull request"])
    if event != "APPROVE" and not body:
        raise Refused(422, "Unprocessable Entity", errors=["Body can't be blank"])
    if len(body) > BODY_LIMIT:
        raise invalid("PullRequestReview", "body", message=f"body is too long (maximum is {BODY_LIMIT} characters)")
    commit = want(fields, "commit_id", str, resource="PullRequestReview", default=pull.head_sha)
    if not ask.repo.git.is_a("commit", commit):
        raise Refused(422, "Unprocessable Entity", errors=["No commit found for the commit_id"])
    review = Review(id=ask.box.next_id(), user=ask.user, body=body, state=STATES[event], commit_id=commit)
    pull.reviews[review.id] = review
    pull.requested_reviewers = [one for one in pull.requested_reviewers if one is not ask.user]
    pull.updated_at = now()
    await ask.box.tell("pull_request_review", "submitted", repo=ask.repo, sender=ask.user, pull=pull, review=review)
    return Answer(objects.review(ask.box, ask.repo, pull, review))


@route("PUT", PULL + "/reviews/{review_id}/dismissals", "pull_requests:write")
async def dismiss_review(ask: Ask) -> Answer:
    pull = ask.pull()
    review = found(ask, pull)
    ask.require(Access.WRITE)
    want(await ask.json(), "message", str, resource="PullRequestReview")
    review.state = "DISMISSED"
    await ask.box.tell("pull_request_review", "dismissed", repo=ask.repo, sender=ask.user, pull=pull, review=review)
    return Answer(objects.review(ask.box, ask.repo, pull, review))


@route("GET", PULL + "/requested_reviewers", "pull_requests:read")
async def list_requested(ask: Ask) -> Answer:
    return Answer({"users": objects.people(ask.box, ask.pull().requested_reviewers), "teams": []})


@route("POST", PULL + "/requested_reviewers", "pull_requests:write")
async def request_reviewers(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/pulls/review-requests: 422 for the author and for who has no access"""
    fields, pull = await ask.json(), ask.pull()
    ask.require(Access.WRITE)
    users = [reviewer(ask, pull, login) for login in texts(fields, "reviewers", "PullRequest")]
    added = [user for user in dict.fromkeys(users) if user not in pull.requested_reviewers]
    pull.requested_reviewers += added
    for user in added:
        await told(ask, pull, "review_requested", user)
    return Answer(objects.pull_simple(ask.box, ask.repo, pull), 201)


def reviewer(ask: Ask, pull: Pull, login: str) -> User:
    user = ask.box.user(login)
    if user is pull.user:
        raise Refused(422, "Review cannot be requested from pull request author.")
    if user is None or not ask.box.is_collaborator(user, ask.repo):
        raise Refused(
            422,
            "Reviews may only be requested from collaborators. One or more of the users or teams you specified is"
            f" not a collaborator of the {ask.repo.full_name} repository.",
        )
    return user


@route("DELETE", PULL + "/requested_reviewers", "pull_requests:write")
async def remove_requested(ask: Ask) -> Answer:
    fields, pull = await ask.json(), ask.pull()
    gone = {login.lower() for login in texts(fields, "reviewers", "PullRequest")}
    removed = [user for user in pull.requested_reviewers if user.login.lower() in gone]
    pull.requested_reviewers = [user for user in pull.requested_reviewers if user not in removed]
    for user in removed:
        await told(ask, pull, "review_request_removed", user)
    return Answer(objects.pull_simple(ask.box, ask.repo, pull))


async def told(ask: Ask, pull: Pull, action: str, reviewer: User) -> None:
    pull.updated_at = now()
    await ask.box.tell("pull_request", action, repo=ask.repo, sender=ask.user, pull=pull, requested_reviewer=reviewer)
