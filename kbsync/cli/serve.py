"""`kbsync serve`: HTTP without a daemon."""

from __future__ import annotations

import click

from kbsync.cli.state import State, pass_state, quieten


@click.command("serve", short_help="Answer HTTP without a daemon.")
@click.option("--port", default=None, type=click.IntRange(0, 65535), help="Listen here instead of serve.port.")
@pass_state
def command(state: State, port: int | None) -> None:
    """Answer HTTP over the store, without syncing: metrics, health, status, and what a token allows.

    `kbsync run` does the same beside its work. This is for a machine that only looks, and for a daemon that was
    told not to (serve.enabled). It stays in the foreground and ends on Ctrl-C or SIGTERM.

    \b
    Example:
      kbsync -c kbsync.toml serve
      curl http://127.0.0.1:8420/status
    """
    from kbsync.serve.server import serve

    quieten()
    settings = state.settings()
    state.log(level=1)
    state.stays = "nothing was changed"
    if port is not None:
        settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": port})})
    serve(settings)
