"""Telefonistka: promotion pull requests for GitOps repositories.

One idea carries the code: gather, decide, act. A handler gathers facts at one pinned commit, calls one pure
function of `core/`, and carries out the value that it returns.

    cli ─► daemon ─┬─► server, admin ─┬─► inbox ─► storage
                   │                  └─► exchange ─┬─► relay ─► wire ─► core
                   │                                ├─► outbox ─► storage
                   │                                └─► configs ─► core, storage
                   ├─► recovery ─► github, inbox, exchange, repositories ─► ledger
                   ├─► census ─► github, repositories
                   └─► worker ─┬─► inbox
                               └─► handlers ─┬─► github ─► core ─► errors
                                             └─► ledger ─► storage
    daemon ─► live, supervisor: what a reload replaces; systemd
    cli, daemon ─► settings ─► serverfile
    cli ─► bump, doctor, registration ─► github, relay
    sandbox: a local GitHub over real git, for trying things out and for the tests

`tests/test_architecture.py` keeps the arrows.

Words that we use in one sense only:

exchange    which webhook goes to which endpoints; the relay sends, the outbox remembers
endpoint    one URL that the relay sends to
delivery    one webhook as GitHub sent it
work item   a delivery, or a later act of our own
lane        what must happen in order: a repository, or one pull request of it
component   a directory under a source path
flow        one entry of `promotionPaths`
promotion   one pull request that syncs components from a source to its targets
snapshot    path → (mode, object id) of a commit's directories
outcome     how a handler ended
ledger      what we opened and did
"""

__version__ = "0.1.0"
