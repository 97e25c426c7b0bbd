"""`kbsync ask`: one prompt, two models."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, Utf8, json_option, pass_state


@click.command("ask", short_help="Ask the base model and the synced one.")
@click.argument("prompt", type=Utf8())
@click.option("--tokens", default=20, show_default=True, type=click.IntRange(1, 2000), help="How much to generate.")
@click.option("--chat", is_flag=True, help="Ask in the model's chat template instead of letting it go on.")
@json_option
@pass_state
def command(state: State, prompt: str, tokens: int, chat: bool) -> None:
    """Let the base model and the synced model go on with PROMPT, side by side.

    Greedy decoding, so that the same prompt gives the same answer.

    \b
    Examples:
      kbsync ask "The prime minister of Japan is"
      kbsync ask --chat "Who is the prime minister of Japan?"
    """
    from kbsync.sync.answer import answer

    with state.bench() as bench:
        said = answer(bench, prompt, tokens=tokens, chat=chat)
    if state.as_json:
        show.as_json(said)
        return
    show.line(prompt, "bold")
    synced = said.synced if said.checkpoint else "(nothing is published yet: the base model is live)"
    show.table(["the base model", f"the synced model ({said.checkpoint or 'none'})"], [[said.base, synced]])
