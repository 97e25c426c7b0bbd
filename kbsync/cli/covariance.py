"""`kbsync covariance`: the second moment of keys, ahead of a sync."""

from __future__ import annotations

from dataclasses import asdict

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.command("covariance", short_help="Compute C ahead of a sync.")
@json_option
@pass_state
def command(state: State) -> None:
    """Compute C, the second moment of the base model's keys over ordinary text.

    A sync does it by itself; this is for doing it ahead, as when a larger model takes long, and for seeing what C
    was made of. A share of the text is facts of the store, so run it after a first pull. C is kept in model.cache,
    computed once per base model, layers and text. An interrupted computation goes on from its last saved part.

    \b
    Example:
      kbsync -c kbsync.toml covariance
    """
    from kbsync.edit.spectrum import spectrum

    state.stays = "the saved parts stay; run it again to go on"
    with state.bench() as bench:
        covariance = bench.editor.covariance
        cache = bench.settings.model.cache
    layers = sorted(covariance.matrices)
    outlines = {layer: spectrum(covariance.matrices[layer]) for layer in layers}
    if state.as_json:
        show.as_json(
            {
                "hash": covariance.hash,
                "tokens": covariance.tokens,
                "sources": dict(covariance.sources),
                "layers": layers,
                "spectrum": {str(layer): asdict(one) for layer, one in outlines.items()},
                "cache": cache,
            }
        )
        return
    show.table(
        ["", ""],
        [
            ["layers", ", ".join(map(str, layers))],
            ["tokens", covariance.tokens],
            *([f"  {name}", count] for name, count in covariance.sources.items()),
            ["hash", covariance.hash],
            ["kept in", cache],
        ],
    )
    show.table(
        ["layer", "trace", "effective rank", "condition"],
        [[layer, one.trace, one.effective_rank, one.condition] for layer, one in outlines.items()],
        title="The spectrum of C",
        numbers=["layer", "trace", "effective rank", "condition"],
    )
