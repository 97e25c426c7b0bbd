"""The base model, and how its weights are edited."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from kbsync.settings.section import Section


class ModelSettings(Section):
    """The base model that is kept in sync."""

    base: str = Field("embedded", description="`embedded`, a Hugging Face id, a model folder, or a GGUF file")
    device: str = Field("auto", description="`auto` (CUDA where there is one), `cpu`, or `cuda:N`")
    device_map: Literal["off", "auto", "balanced", "balanced_low_0", "sequential"] = Field(
        "off",
        description="how a model beyond one card is spread over all CUDA devices, then memory, then disk; "
        "the names are accelerate's",
    )
    max_memory: tuple[str, ...] = Field(
        (), description="with `device_map`: what it may use of which device, such as `0=70GiB`, `cpu=100GiB`"
    )
    bos: Literal["auto", "always", "never"] = Field(
        "auto", description="put the BOS token in front of plain prompts; auto: where the tokenizer has one"
    )
    threads: int = Field(0, ge=0, description="CPU threads for the solve and the forward passes; 0: all cores")
    cache: Path = Field(Path("var/cache"), description="converted base models and covariances live here")


Context = Literal["question", "heading", "bare", "sentence", "chat"]


class EditSettings(Section):
    """MEMIT's settings. Every one of them shapes the weights, so all are part of the settings fingerprint."""

    layers: tuple[int, ...] | Literal["auto"] = Field("auto", description="critical layers, counted from 0")
    covariance_weight: float = Field(1000.0, gt=0, description="λ of the solve")
    covariance_facts: Annotated[int, Field(ge=1)] | Literal["off"] = Field(
        50, description="live facts from which on λ grows with their number; off: it never does"
    )
    bystander_weight: float = Field(0.1, ge=0, description="weight of the prompts' other tokens beside λC")
    mean_weight: float = Field(
        1.0, ge=0, description="weight of what the keys of other subjects have in common, as a share of λ"
    )
    clamp: float = Field(
        1.4, gt=0, description="largest ‖δ‖ as a multiple of ‖h‖; the search begins with half of it"
    )
    steps: int = Field(40, ge=1, description="most evaluations of the loss for one z")
    stop_loss: float = Field(0.02, gt=0, description="a request is done when the object's NLL is below this")
    kl_weight: float = Field(0.0, ge=0, description="weight of KL(edited ‖ base) at `<subject> is a`")
    others_weight: float = Field(
        0.5, ge=0, description="weight of KL(edited ‖ base) at another subject's prompt, under a part of δ"
    )
    decay: float = Field(0.5, ge=0, description="weight of ‖δ‖/‖h‖ squared")
    contexts: tuple[Context, ...] = Field(
        ("question", "heading", "sentence"),
        description="where z is solved besides the prompt: `question`, `heading`, `bare`, `sentence`, `chat` "
        "(docs/editing.md says what they are)",
    )
    key_contexts: tuple[Context, ...] = Field(
        ("bare",), description="where else the edit is written, by the same names; z is not solved there"
    )
    prefixes: int = Field(0, ge=0, description="seeded prefixes sampled from the model, as contexts of z")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="requests solved together; auto: 64 on a CPU, what a CUDA device has room for"
    )
    solve_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the layers above while z is solved; auto: bfloat16 where it is native"
    )
    repair_rounds: int = Field(6, ge=0, description="rounds that solve again what the candidate still misses")
    repair_contexts: tuple[Context, ...] = Field(
        ("sentence", "bare"), description="where repair asks for the object besides the prompt, by the same names"
    )
    seed: int = Field(20220, description="seed of the sampled prefixes")

    @field_validator("contexts", "key_contexts", "repair_contexts")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a context is listed twice")
        return names


class CovarianceSettings(Section):
    """The text behind C, the second moment of keys. What the shares leave is plain text."""

    tokens: int = Field(60_000, ge=1, description="tokens of text in all")
    text: tuple[Path, ...] = Field((), description="UTF-8 text files; none: Python's own English documentation")
    facts_share: float = Field(0.2, ge=0, le=1, description="share of tokens from verbalised facts of the store")
    samples_share: float = Field(0.0, ge=0, le=1, description="share of tokens that the base model itself says")
    dataset_share: float = Field(0.0, ge=0, le=1, description="share of tokens from `dataset`")
    dataset: str = Field("", description="a Hugging Face data set's id, or a folder of data files (`./mine`)")
    dataset_config: str = Field("", description="the data set's configuration, where it has several")
    dataset_split: str = Field("train", min_length=1, description="the data set's split")
    dataset_column: str = Field("text", min_length=1, description="the data set's column that holds the text")
    dataset_revision: str = Field("", description="a commit or tag of the data set; none: the newest")
    chunk_tokens: int = Field(128, ge=16, description="tokens of one sequence")
    seed: int = Field(20220, ge=0, description="seed of what the base model says")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.facts_share + self.samples_share + self.dataset_share > 1 + 1e-9:
            raise ValueError("facts_share, samples_share and dataset_share are more than 1 together")
        if bool(self.dataset) != (self.dataset_share > 0):
            raise ValueError("dataset and dataset_share go together: name a data set and give it a share")
        return self
