"""The architecture families that can be edited, and why others can't.

A family is here when it has passed every contract that the tests put to all of them; what is not here is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbsync.errors import ModelError


@dataclass(frozen=True, slots=True)
class Family:
    """Attribute paths of one architecture family; the defaults are Llama's.

    `layers` and `norm` are found on the backbone (the model without its vocabulary projection), `down` on one
    layer. `positions` names a module that adds positions to the embeddings, `embedded` one that they go through
    before the first layer. `after`: the norm, on a layer, between the down-projection and the hidden state.
    `half`: its layers run with bfloat16 parameters beside float32 buffers (GPT-J's rotary tables don't).
    """

    name: str
    layers: str = "layers"
    norm: str = "norm"
    down: str = "mlp.down_proj"
    positions: str | None = None
    embedded: str | None = None
    after: str | None = None
    half: bool = True


_AS_LLAMA = (
    "arcee", "cohere", "cohere2", "ernie4_5", "gemma", "glm", "granite", "helium", "llama", "ministral",
    "ministral3", "mistral", "nemotron", "olmo", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm",
)  # fmt: skip
_NORM_AFTER = ("exaone4", "gemma2", "gemma3_text", "olmo2", "olmo3")
_OTHERS = (
    Family("bloom", "h", "ln_f", "mlp.dense_4h_to_h", embedded="word_embeddings_layernorm"),
    Family("codegen", "h", "ln_f", "mlp.fc_out", half=False),
    Family("falcon", "h", "ln_f", "mlp.dense_4h_to_h"),
    Family("glm4", after="post_mlp_layernorm"),
    Family("gpt2", "h", "ln_f", "mlp.c_proj", positions="wpe"),
    Family("gpt_bigcode", "h", "ln_f", "mlp.c_proj", positions="wpe"),
    Family("gpt_neo", "h", "ln_f", "mlp.c_proj", positions="wpe"),
    Family("gpt_neox", "layers", "final_layer_norm", "mlp.dense_4h_to_h"),
    Family("gptj", "h", "ln_f", "mlp.fc_out", half=False),
    Family("mpt", "blocks", "norm_f", "ffn.down_proj"),
    Family("opt", "layers", "final_layer_norm", "fc2", positions="embed_positions"),
    Family("phi", "layers", "final_layernorm", "mlp.fc2"),
    Family("starcoder2", down="mlp.c_proj"),
)
FAMILIES: Mapping[str, Family] = {
    **{name: Family(name) for name in _AS_LLAMA},
    **{name: Family(name, after="post_feedforward_layernorm") for name in _NORM_AFTER},
    **{family.name: family for family in _OTHERS},
}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "ffn_config")
_STATES = ("state_size", "ssm_state_size", "mamba_d_state", "lru_width", "attention_hidden_size", "conv_L_cache")
_WRAPPED = ("text_config", "vision_config", "audio_config", "language_config", "thinker_config")
_ATTENTION = {"full_attention", "sliding_attention"}


def family_of(config: Any) -> Family:
    """The family of a model's config (any object with its fields). Raises ModelError, saying why, for a model that
    can't be edited."""
    kind = str(getattr(config, "model_type", None))
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{kind} is an encoder-decoder; kbsync edits decoder-only models")
    if kind not in FAMILIES:
        raise ModelError(f"{_reason(config)}; supported are {', '.join(sorted(FAMILIES))}")
    unfit = _unfit(config)
    if unfit is not None:
        raise ModelError(f"this {kind} model {unfit}")
    return FAMILIES[kind]


def _reason(config: Any) -> str:
    """Why a type is not among the families."""
    kind = f"the model type {getattr(config, 'model_type', None)!r}"
    if _has(config, _WRAPPED):
        return f"{kind} wraps a language model together with other parts; name its text model alone"
    if _has(config, _EXPERTS):
        return f"{kind} is a mixture of experts: a key has no one down-projection to be written to"
    if _has(config, _STATES) or not _ATTENTION.issuperset(getattr(config, "layer_types", None) or ()):
        return f"{kind} is recurrent: what it has read is kept in a state, not in attention that can be masked"
    return f"no adapter for {kind}"


def _has(config: Any, names: tuple[str, ...]) -> bool:
    return any(getattr(config, name, None) for name in names)


def _unfit(config: Any) -> str | None:
    """What keeps one model of a supported family from being edited."""
    if not getattr(config, "do_layer_norm_before", True):
        return "norms the hidden state itself behind each MLP, so a residual does not stay what it is"
    if getattr(config, "word_embed_proj_dim", None) not in (None, getattr(config, "hidden_size", None)):
        return "projects its embeddings to another size, so hidden states can't be fed in between"
    if getattr(config, "slow_but_exact", False) and getattr(config, "pretraining_tp", 1) > 1:
        return "multiplies in slices (slow_but_exact), past its down-projections; set it to false in config.json"
    if getattr(config, "use_bidirectional_attention", False):
        return "reads a text in both directions; kbsync edits models that read forwards"
    if getattr(config, "add_cross_attention", False):
        return "attends to an encoder; kbsync edits decoder-only models"
    foreign = sorted(set(getattr(config, "layer_types", None) or ()) - _ATTENTION)
    if foreign:
        return f"has layers of the kind {foreign[0]}, which can't be masked as prompts need"
    return None
