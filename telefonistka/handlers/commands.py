"""What people ask for in a comment: checked who asks and for which commit, then done, or refused with the reason.

What takes long, or may have to be tried again, is work of its own: as if GitHub had told of the pull request anew.
"""

from __future__ import annotations

from dataclasses import replace

from telefonistka.core import commands, comments, events
from telefonistka.core.commands import Act, Command, Toggle, Unclear
from telefonistka.core.config import RepoConfig
from telefonistka.core.events import Comment, PullRequest
from telefonistka.github.repo import Pull
from telefonistka.handlers import facts
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Journal, Status

YES, NO = "+1", "confused"  # our reactions
ACTIONS = {Act.PLAN: events.PLAN_ASKED, Act.DRIFT: events.DRIFT_ASKED, Act.RETRIGGER: "synchronize"}


class No(Exception):  # noqa: N818 - an answer
    """The command is not carried out; the text says why, `instead` is what might be meant."""

    def __init__(self, reason: str, instead: str = "") -> None:
        super().__init__(reason)
        self.instead = instead


async def run(event: Comment, given: Context) -> Done:
    """What the comment asks for is done, under way or refused, and its author sees which."""
    wish = commands.parse(event.body)
    if wish is None or not await _is_heard(event, given):
        return Done("nothing that we are asked for")
    config = None
    if isinstance(wish, Toggle):
        config = await _config(given)
        if wish.context(config.toggle_commit_status) is None:
            return Done("not a word that is configured")
    try:
        if not await _may(event, given):
            raise No("it takes write permission to this repository")
        done = await _carry_out(event, wish, config, given)
    except No as no:
        await _refuse(event, no, given)
        return Done(f"refused: {no}")
    await given.repo.react(event.id, YES)
    return Done(done)


async def _is_heard(event: Comment, given: Context) -> bool:
    """Bots are not; we ourselves only where the operator wants it."""
    if event.author == await given.repo.login():
        return given.handle_self_comment
    return not event.by_app


async def _may(event: Comment, given: Context) -> bool:
    # GitHub does not count an App among the collaborators; what we write ourselves, we may ask for.
    return event.author == await given.repo.login() or await given.repo.may_write(event.author)


async def _config(given: Context) -> RepoConfig:
    """The configuration on the default branch; a broken one has no words."""
    branch = await given.repo.default_branch()
    snapshot = await given.repo.snapshot(branch.head.tree)
    return (await facts.repository_config(given.repo, snapshot)).value or RepoConfig()


async def _carry_out(
    event: Comment, wish: Command | Toggle | Unclear, config: RepoConfig | None, given: Context
) -> str:
    if isinstance(wish, Unclear):
        raise No("this is no command", f"{commands.NAME} {Act.HELP}")
    pull = await given.repo.pull(event.number)
    match wish:
        case Command(act=Act.HELP):
            await _help(event, pull, given)
            return "help"
        case Command(act=Act.PROMOTE):
            _expect_head(pull, wish.head)
            await given.later(_promotion(event, pull))
            return "promote"
        case Command(act=act):
            await _expect_seen_head(event, pull, wish.head, given)
            await given.later(_anew(event, pull, ACTIONS[act]))
            return str(act)
        case Toggle():
            await _expect_seen_head(event, pull, wish.head, given, toggles=True)
            assert config is not None
            return await _toggle(event, pull, wish.context(config.toggle_commit_status) or "", given)


async def _help(event: Comment, pull: Pull, given: Context) -> None:
    toggles = (await _config(given)).toggle_commit_status
    text = given.words.command(_kind(event), help=True, toggles=toggles, head=pull.head_sha)
    await given.repo.ensure_comment(event.number, comments.marker(_kind(event)), text)


async def _expect_seen_head(
    event: Comment, pull: Pull, given_head: str, given: Context, *, toggles: bool = False
) -> None:
    """The commit that the command is for is the head; raises No where it is not, or where nobody can tell."""
    if pull.state != "open":
        raise No("the pull request is not open")
    if given_head:
        _expect_head(pull, given_head)
        return
    if given.forgetful and not toggles:
        return  # what is only said names the head that it is about
    seen = await Journal(given.ledger, event.repository.id).seen(event.number)
    instead = f"{commands.first_line(event.body)} {pull.head_sha[:12]}"
    if seen is None:
        why = (
            "no webhook has told of the pull request" if not given.forgetful else "this run knows of this comment alone"
        )
        raise No(f"Telefonistka cannot tell for which commit it was meant, as {why}", instead)
    if seen.head != pull.head_sha:
        raise No(f"it was for {seen.head[:12]}, and somebody has pushed {pull.head_sha[:12]} since", instead)


def _expect_head(pull: Pull, given_head: str) -> None:
    if not pull.head_sha.startswith(given_head):
        raise No(f"the head of the pull request is {pull.head_sha[:12]}, not {given_head}")


def _anew(event: Comment, pull: Pull, action: str) -> PullRequest:
    """As if GitHub had told of the pull request as it is now."""
    return PullRequest(
        repository=event.repository,
        action=action,
        number=pull.number,
        merged=pull.merged,
        base_ref=pull.base_ref,
        base_sha=pull.base_sha,
        head_ref=pull.head_ref,
        head_sha=pull.head_sha,
        merge_sha=None,
        title=pull.title,
        body=pull.body,
        author=pull.author or "ghost",
        sender=event.author,
        labels=pull.labels,
    )


def _promotion(event: Comment, pull: Pull) -> PullRequest:
    if not pull.merged:
        raise No("the pull request is not merged; what it would promote, /telefonistka plan says")
    if pull.base_ref != event.repository.default_branch:
        raise No(f"it was merged into {pull.base_ref}, not into {event.repository.default_branch}")
    return _anew(event, pull, "closed")


async def _toggle(event: Comment, pull: Pull, context: str, given: Context) -> str:
    """The newest status of the context is the opposite of what it was, and says who did it."""
    journal = Journal(given.ledger, event.repository.id)
    found = await given.repo.status(pull.head_sha, context)
    if found is None:
        raise No(f"{pull.head_sha[:12]} has no commit status {context}")
    status = Status(state=found.state, text=found.description, link=found.target_url or "")
    wanted = await journal.toggled(event.id)
    if wanted is None:
        state = commands.toggled(status.state)
        text = comments.status(f"set to {state} by {event.author}; it was {status.state}: {status.text}")
        wanted = replace(status, state=state, text=text)
        # Stored first: whoever does it again would find the opposite.
        await journal.put_toggled(event.id, wanted)
    if status != wanted:
        await given.repo.set_status(pull.head_sha, wanted.state, wanted.text, wanted.link or None, context)
    if context == events.STATUS_CONTEXT:
        await journal.put_status(pull.head_sha, wanted)
    return f"{context}: {wanted.state}"


async def _refuse(event: Comment, no: No, given: Context) -> None:
    text = given.words.command(
        _kind(event), help=False, line=commands.first_line(event.body), reason=str(no), instead=no.instead
    )
    await given.repo.ensure_comment(event.number, comments.marker(_kind(event)), text)
    await given.repo.react(event.id, NO)


def _kind(event: Comment) -> str:
    return f"command-{event.id}"
