"""PyGithub, a client that nobody here wrote, works with the sandbox as with GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio.to_thread
import github as pygithub
import pytest
from github.Repository import Repository

from telefonistka.sandbox.box import Box
from tests.contract.conftest import GitHub


@pytest.fixture
async def repository(box: Box, github: GitHub) -> AsyncIterator[Repository]:
    """acme/iac as PyGithub sees it, through the Enterprise address."""
    client = pygithub.Github(
        auth=pygithub.Auth.Token(str(github.token)),
        base_url=f"{box.url}/api/v3",
        seconds_between_requests=None,
        seconds_between_writes=None,
        retry=None,
    )
    yield await anyio.to_thread.run_sync(client.get_repo, "acme/iac")
    client.close()


async def test_a_foreign_client_takes_a_change_from_branch_to_merge(repository: Repository) -> None:
    """A branch, a file, a pull request, a label, a comment, a status, and the merge."""
    await anyio.to_thread.run_sync(change, repository)


def change(repository: Repository) -> None:
    main = repository.get_branch("main")
    repository.create_git_ref("refs/heads/feature", main.commit.sha)
    written = repository.create_file("lab/new/app.yaml", "Add an app", "image: 1\n", branch="feature")
    assert repository.get_contents("lab/new/app.yaml", ref="feature").decoded_content == b"image: 1\n"  # type: ignore[union-attr]

    pull = repository.create_pull(base="main", head="feature", title="Add an app", body="It is new.")
    pull.add_to_labels("promotion")
    pull.add_to_assignees("ada")
    pull.create_issue_comment("Looks good.")
    commit = repository.get_commit(written["commit"].sha)
    commit.create_status("success", description="all is well", context="ci")
    assert [file.filename for file in pull.get_files()] == ["lab/new/app.yaml"]
    assert [label.name for label in pull.get_labels()] == ["promotion"]
    assert [comment.body for comment in pull.get_issue_comments()] == ["Looks good."]
    assert commit.get_combined_status().state == "success"
    assert [found.number for found in repository.get_pulls(state="open", head="acme:feature")] == [pull.number]

    merged = pull.merge(commit_title="Add an app", merge_method="squash", sha=pull.head.sha)
    assert merged.merged
    assert repository.get_branch("main").commit.sha == merged.sha
    assert repository.get_pull(pull.number).merged
    assert not list(repository.get_pulls(state="open"))


async def test_a_foreign_client_reads_and_writes_git_objects(repository: Repository) -> None:
    """A tree on a base, a commit, a comparison, and the recursive listing."""
    await anyio.to_thread.run_sync(graft, repository)


def graft(repository: Repository) -> None:
    head = repository.get_git_commit(repository.get_branch("main").commit.sha)
    listed = repository.get_git_tree(head.tree.sha, recursive=True)
    source = next(item for item in listed.tree if item.path == "lab/web")
    element = pygithub.InputGitTreeElement("production/web", "040000", "tree", sha=source.sha)
    tree = repository.create_git_tree([element], base_tree=head.tree)
    commit = repository.create_git_commit("Promote", tree, [head])
    repository.create_git_ref("refs/heads/promotion", commit.sha)
    compared = repository.compare("main", "promotion")
    assert (compared.status, compared.ahead_by) == ("ahead", 1)
    assert {file.filename for file in compared.files} == {"production/web/app.yaml", "production/web/run.sh"}


async def test_a_foreign_client_is_told_errors_as_its_own(repository: Repository) -> None:
    """404 and 422 become its exceptions, with GitHub's words."""
    with pytest.raises(pygithub.UnknownObjectException):
        await anyio.to_thread.run_sync(repository.get_pull, 99)
    main = await anyio.to_thread.run_sync(repository.get_branch, "main")
    with pytest.raises(pygithub.GithubException) as refused:
        await anyio.to_thread.run_sync(repository.create_git_ref, "refs/heads/main", main.commit.sha)
    assert (refused.value.status, refused.value.message) == (422, "Reference already exists")


async def test_a_foreign_client_signs_in_as_an_app(box: Box, github: GitHub) -> None:
    """By JWT to the installation's token, and with that to the repository."""
    made = box.new_app("telefonistka", owner="acme")

    def files() -> list[str]:
        auth = pygithub.Auth.AppAuth(made.app.id, made.private_key)
        integration = pygithub.GithubIntegration(auth=auth, base_url=f"{box.url}/api/v3")
        installation = integration.get_repo_installation("acme", "iac")
        client = integration.get_github_for_installation(installation.id)
        return [item.path for item in client.get_repo("acme/iac").get_contents("lab/web")]  # type: ignore[union-attr]

    assert await anyio.to_thread.run_sync(files) == ["lab/web/app.yaml", "lab/web/run.sh"]
