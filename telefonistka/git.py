"""The door to a local git repository, read only: what `plan` needs to know without GitHub."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from telefonistka.core import trees
from telefonistka.core.trees import Oid, Sha, Snapshot
from telefonistka.errors import Rejected

DEADLINE = 60  # seconds for one git command; a listing of 100,000 files takes about one


@dataclass(frozen=True, slots=True)
class Repository:
    """A clone or bare repository on this machine. Its methods raise Rejected where git says no, with git's words."""

    path: Path

    def commit(self, revision: str) -> Sha:
        try:
            return Sha(
                self._git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
            )
        except Rejected as error:
            raise Rejected(f"{self.path} has no commit called '{revision}'; is it fetched? ({error})") from error

    def merge_base(self, one: Sha, other: Sha) -> Sha:
        return Sha(self._git("merge-base", one, other).decode().strip())

    def snapshot(self, revision: str) -> Snapshot:
        """All directories of a commit or tree."""
        root = Oid(self._git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{tree}}").decode().strip())
        return trees.index(root, trees.parse_listing(self._git("ls-tree", "-r", "-t", "-z", root)))

    def merged(self, base: Sha, head: Sha) -> Snapshot:
        """All directories as a merge of the head into the base would leave them; the repository is not written to."""
        if self.merge_base(base, head) == base:
            return self.snapshot(head)
        objects = (self.path / self._git("rev-parse", "--git-path", "objects").decode().strip()).resolve()
        with tempfile.TemporaryDirectory() as scratch:
            elsewhere = [f"GIT_OBJECT_DIRECTORY={scratch}", f"GIT_ALTERNATE_OBJECT_DIRECTORIES={objects}"]
            root = self._merge_tree(base, head, elsewhere)
            listing = self._git("ls-tree", "-r", "-t", "-z", root, variables=elsewhere)
        return trees.index(Oid(root), trees.parse_listing(listing))

    def _merge_tree(self, base: Sha, head: Sha, variables: Sequence[str]) -> Oid:
        try:
            merged = self._git("merge-tree", "--write-tree", "--name-only", base, head, variables=variables)
        except Rejected as error:
            raise Rejected(f"{head[:12]} conflicts with {base[:12]}, or git is older than 2.38: {error}") from error
        return Oid(merged.decode().split()[0])

    async def widen(self, snapshot: Snapshot, paths: Collection[str]) -> Snapshot:
        return snapshot

    async def blobs(self, oids: Collection[Oid]) -> dict[Oid, bytes]:
        return {oid: self._git("cat-file", "blob", oid) for oid in oids}

    async def read(self, commit: Sha, paths: Collection[str]) -> dict[str, bytes | None]:
        """The files at a commit, None for a path where there is none."""
        snapshot = self.snapshot(commit)
        entries = {path: snapshot.entry(path) for path in paths}
        return {path: self._git("cat-file", "blob", entry.oid) if entry else None for path, entry in entries.items()}

    def _git(self, *arguments: str, variables: Sequence[str] = ()) -> bytes:
        command = ["env", *variables, "git", "-C", str(self.path), *arguments]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise Rejected(f"git {arguments[0]} in {self.path}: {said}")
        return done.stdout
