"""The daemon with a bug: it creates without looking what an earlier attempt has left. `python -m tests.faults.seeded`.

A campaign that does not find this one finds nothing.
"""

from __future__ import annotations

from telefonistka.cli import main
from telefonistka.core.trees import Sha
from telefonistka.github.repo import Pull
from telefonistka.handlers import promote


async def create_only(self: promote._Opening, branch: str, commit: Sha) -> bool:
    """A branch that is there already is taken for somebody else's."""
    return await self.repo.create_branch(branch, commit)


async def see_nothing(self: promote._Opening, branch: str, commit: Sha) -> Pull | None:
    """No pull request was ever opened before."""
    return None


if __name__ == "__main__":
    promote._Opening._claim = create_only  # type: ignore[method-assign]
    promote._Opening._standing = see_nothing  # type: ignore[method-assign]
    main()
