"""Settings come from the environment, the file and the defaults, and every mistake is told in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from sqlalchemy import make_url

from kbsync import __version__
from kbsync.errors import ConfigError
from kbsync.settings import Section, Settings, SourceSettings, load_settings, share, user_agent

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests reaches them."""
    for name in list(os.environ):
        if name.upper().startswith("KBSYNC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a TOML file and returns its path."""

    def put(text: str) -> Path:
        path = tmp_path / "kbsync.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def error_of(path: Path | None = None, overrides: dict[str, dict[str, object]] | None = None) -> str:
    """The one line that loading ends in."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, overrides)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def sections() -> list[tuple[str, type[Section]]]:
    """Name and class of every section."""
    found = [(name, field.annotation) for name, field in Settings.model_fields.items()]
    return [(name, cls) for name, cls in found if isinstance(cls, type) and issubclass(cls, Section)]


def test_defaults_need_no_file() -> None:
    """Without a file every setting has its default."""
    settings = load_settings()
    assert settings.model.base == "embedded"
    assert settings.edit.clamp == 1.4
    assert settings.watch.relations == ()


def test_the_file_wins_over_the_default_and_the_environment_over_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KBSYNC_SOURCE__ENDPOINT beats the file's endpoint, and the file's other keys stay."""
    path = write(
        '[source]\nendpoint = "http://file/sparql"\npage_size = 7\nallowed_hosts = ["file", "environment"]\n'
    )
    assert load_settings(path).source.endpoint == "http://file/sparql"
    monkeypatch.setenv("KBSYNC_SOURCE__ENDPOINT", "http://environment/sparql")
    settings = load_settings(path)
    assert settings.source.endpoint == "http://environment/sparql"
    assert settings.source.page_size == 7
    assert settings.source.attempts == SourceSettings().attempts


def test_overrides_win_over_the_file(write: Write) -> None:
    """What a command sets beats the file key by key."""
    path = write("[source]\npage_size = 7\nattempts = 2\n")
    settings = load_settings(path, {"source": {"page_size": 9}})
    assert (settings.source.page_size, settings.source.attempts) == (9, 2)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("KBSYNC_WATCH__RELATIONS", '["P36", "P6"]', lambda s: s.watch.relations == ("P36", "P6")),
        ("KBSYNC_WATCH", '{"relations": ["P6"], "priority": {"P6": 9}}', lambda s: s.watch.priority == {"P6": 9}),
        ("KBSYNC_EDIT__LAYERS", "[3, 4]", lambda s: s.edit.layers == (3, 4)),
        ("KBSYNC_EDIT__CONTEXTS", '["bare"]', lambda s: s.edit.contexts == ("bare",)),
        ("KBSYNC_GATE__MAX_PERPLEXITY_RATIO", "off", lambda s: s.gate.max_perplexity_ratio is None),
        ("KBSYNC_MODEL__THREADS", "3", lambda s: s.model.threads == 3),
    ],
)
def test_the_environment_carries_every_type(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: Callable[[Settings], bool]
) -> None:
    """Lists as JSON, numbers, booleans and `off` can be set from the environment."""
    monkeypatch.setenv(name, value)
    assert read(load_settings())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[modle]\nbase = "x"\n', "unknown key modle; did you mean model?"),
        ('[model]\nbsae = "x"\n', "unknown key model.bsae; did you mean model.base?"),
        ("[edit]\nstop_los = 1\n", "unknown key edit.stop_los; did you mean edit.stop_loss?"),
        ("[edit]\nqqqqqq = 1\n", "unknown key edit.qqqqqq; `kbsync config show` lists the known keys"),
        ("qqqqqq = 1\n", "unknown key qqqqqq; `kbsync config show` lists the known keys"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(write: Write, text: str, words: str) -> None:
    """A misspelt section or key names the file, the key, and the known key that is spelt most like it."""
    path = write(text)
    assert error_of(path) == f"{path}: {words}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[edit]\nsteps = "many"\n', "edit.steps: Input should be a valid integer"),
        ("[edit]\nsteps = 0\n", "edit.steps: Input should be greater than or equal to 1 (got 0)"),
        ("[edit]\nsteps = true\n", "edit.steps: true and false are not values of this key"),
        ('[edit]\nlayers = "some"\n', "edit.layers: Input should be a valid tuple (got 'some')"),
        ("[edit]\nclamp = inf\n", "edit.clamp: Input should be a finite number"),
        ("[edit]\nclamp = nan\n", "edit.clamp: "),
        ("model = 3\n", "model: Input should be a valid dictionary"),
        ('[source]\nendpoint = "ftp://x"\n', "source.endpoint: the endpoint must be an http:// or https:// URL"),
        ('[source]\nlanguage = "en } UNION {"\n', "source.language: "),
        (
            '[source]\nendpoint = "https://evil.example/sparql"\n',
            "source: the host 'evil.example' is not in source.allowed_hosts; add it there",
        ),
        ("[source]\nallowed_hosts = []\n", "source: the host 'query.wikidata.org' is not in source.allowed_hosts"),
        (
            '[source]\nendpoint = "https://me:hush@localhost/"\n',
            "source.endpoint: a URL with credentials in it is refused",
        ),
        ('[source]\ntoken = "hush"\n', "source.token does not belong into a file"),
        (
            '[source]\nendpoint = "http://db.example/"\nallowed_hosts = ["db.example"]\ntoken_file = "x"\n',
            "source: a secret would travel in the clear: use an https:// endpoint",
        ),
        ('[watch]\nrelations = ["Q1"]\n', "watch.relations: 'Q1' is not a property id such as P36"),
        ('[watch]\nrelations = ["P36\\n"]\n', "watch.relations: 'P36\\n' is not a property id"),
        ('[watch]\nrelations = ["P36", "P36"]\n', "watch.relations: a relation is listed twice"),
        (
            '[watch]\nrelations = ["P36"]\n[watch.priority]\nP6 = 1\n',
            "watch.priority: 'P6' is not one of watch.rel",
        ),
        (
            '[watch]\nrelations = ["P6"]\n[watch.priority]\nP6 = "high"\n',
            "watch.priority.P6: Input should be a valid",
        ),
        (
            '[watch]\nrelations = ["P6"]\n[watch.priority]\nP6 = true\n',
            "watch.priority.P6: Input should be a valid",
        ),
        ("[watch]\npriority = 3\n", "watch.priority: Input should be a valid dictionary"),
        ('[watch]\nwhen_full = "stop"\n', "watch.when_full: Input should be 'hold' or 'refuse'"),
        ("[gate]\nmin_efficacy_success = 2\n", "gate.min_efficacy_success: "),
        ('[gate]\nmin_efficacy_success = "none"\n', "gate.min_efficacy_success: "),
        ('[schedule]\ncron = "hourly"\n', "schedule.cron: a cron line has five fields"),
        (
            '[schedule]\ncron = "0 * * * *"\ninterval_minutes = 5\n',
            "schedule: give interval_minutes or cron, not both",
        ),
    ],
)
def test_a_wrong_value_names_file_key_and_value(write: Write, text: str, words: str) -> None:
    """A value of the wrong type or out of range is told in one line that starts with the file and the key."""
    path = write(text)
    assert error_of(path).startswith(f"{path}: {words}")


def test_a_wrong_value_is_found_under_an_override(write: Write) -> None:
    """An override of one key does not hide that the file's section is no table."""
    assert "model: Input should be a valid dictionary" in error_of(write("model = 3\n"), {"model": {"base": "x"}})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "KBSYNC_SOURCE__ENDPIONT",
            "http://x",
            "KBSYNC_SOURCE__ENDPIONT in the environment: unknown key source.endpiont; did you mean source.endpoint",
        ),
        (
            "KBSYNC_SORUCE__ENDPOINT",
            "http://x",
            "KBSYNC_SORUCE__ENDPOINT names no section; did you mean KBSYNC_SOURCE__",
        ),
        ("KBSYNC_EDIT__STEPS", "many", "KBSYNC_EDIT__STEPS in the environment: edit.steps: "),
        ("kbsync_edit__steps", "many", "kbsync_edit__steps in the environment: edit.steps: "),
        ("KBSYNC_WATCH__RELATIONS", '["P6", "Q6"]', "KBSYNC_WATCH__RELATIONS in the environment: watch.relations"),
        ("KBSYNC_WATCH__RELATIONS", "P36", "write lists in the environment as JSON"),
        ("KBSYNC_MODEL", "gpt2", 'error parsing value for field "model"'),
    ],
)
def test_a_mistake_in_the_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """A misspelt variable or a wrong value in the environment is an error, never ignored."""
    monkeypatch.setenv(name, value)
    assert words in error_of()


def test_a_mistake_in_the_file_is_the_files(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Variables that are right have no part in it."""
    monkeypatch.setenv("KBSYNC_EDIT__STEPS", "12")
    path = write("[edit]\nstop_loss = 'x'\n")
    assert error_of(path).startswith(f"{path}: edit.stop_loss: ")


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with the prefix but without a section is not ours to judge."""
    monkeypatch.setenv("KBSYNC_CI", "1")
    assert load_settings() == load_settings()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The path that was asked for stands in the error."""
    assert error_of(tmp_path / "none.toml") == f"no config file at {tmp_path / 'none.toml'}"


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """What can't be opened is named with the cause."""
    assert error_of(tmp_path).startswith(f"{tmp_path} can't be read: ")


@pytest.mark.parametrize("text", ["[edit\n", "a = \n", "[a]\n[a]\n", "x = 1\nx = 2\n"])
def test_invalid_toml_is_told_with_its_place(write: Write, text: str) -> None:
    """Broken TOML names the file and the line."""
    path = write(text)
    assert error_of(path).startswith(f"{path} is not valid TOML: ")


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error of one line."""
    path = tmp_path / "kbsync.toml"
    path.write_bytes(b'[model]\nbase = "\xff"\n')
    assert error_of(path).startswith(f"{path} can't be read: ")


def test_relative_paths_are_relative_to_the_file(write: Write, tmp_path: Path) -> None:
    """Paths in a file lie beside it, wherever the command is started."""
    settings = load_settings(
        write(
            '[model]\ncache = "c"\n[checkpoint]\nfolder = "deep/ck"\n[covariance]\ntext = ["a.txt", "/abs/b.txt"]\n'
            '[store]\nurl = "sqlite:///my.db"\n[watch]\ncatalogue = "mine.toml"\n'
        )
    )
    assert settings.model.cache == tmp_path / "c"
    assert settings.checkpoint.folder == tmp_path / "deep/ck"
    assert settings.covariance.text == (tmp_path / "a.txt", Path("/abs/b.txt"))
    assert settings.store.url == f"sqlite:///{tmp_path / 'my.db'}"
    assert settings.watch.catalogue == tmp_path / "mine.toml"


def test_a_data_set_is_an_id_or_a_folder(write: Write, tmp_path: Path) -> None:
    """What begins like a path lies beside the file; anything else is asked of the Hub as it is."""
    for name, expected in (("./mine", tmp_path / "mine"), ("/abs", "/abs"), ("some/text", "some/text")):
        settings = load_settings(write(f'[covariance]\ndataset = "{name}"\ndataset_share = 0.5\n'))
        assert settings.covariance.dataset == str(expected)
    assert load_settings().covariance.dataset == ""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"facts_share": 0.6, "samples_share": 0.5}, "are more than 1 together"),
        ({"dataset": "some/text"}, "name a data set and give it a share"),
        ({"dataset_share": 0.5}, "name a data set and give it a share"),
    ],
)
def test_shares_that_can_not_be(keys: dict[str, object], message: str) -> None:
    """Text takes what the shares leave, so they can't be more than all; a data set without a share is a slip."""
    assert message in error_of(overrides={"covariance": keys})


def test_shares_may_be_everything() -> None:
    """0.1, 0.2 and 0.7 are 1, whatever binary fractions make of them."""
    shares = {"facts_share": 0.1, "samples_share": 0.2, "dataset_share": 0.7, "dataset": "some/text"}
    assert load_settings(None, {"covariance": shares}).covariance.dataset_share == 0.7


def test_a_file_in_config_is_relative_to_the_folder_above(tmp_path: Path) -> None:
    """A clone keeps its files in `config/` and its state beside it."""
    path = tmp_path / "config" / "wikidata.toml"
    path.parent.mkdir()
    path.write_text("")
    assert load_settings(path).checkpoint.folder == tmp_path / "var/checkpoints"


def test_without_a_file_paths_are_relative_to_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is the root when there is no file."""
    monkeypatch.chdir(tmp_path)
    assert load_settings().model.cache == tmp_path / "var/cache"


@pytest.mark.parametrize("url", ["postgresql+psycopg://u@h/db", "sqlite:////abs/x.db", "sqlite:///:memory:"])
def test_urls_that_are_not_relative_stay(write: Write, url: str) -> None:
    """Servers, absolute paths and memory are left as they are."""
    assert load_settings(write(f'[store]\nurl = "{url}"\n')).store.url == url


def test_home_is_expanded(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde means the user's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_settings(write('[model]\ncache = "~/c"\n')).model.cache == tmp_path / "home" / "c"


def test_a_threshold_that_is_off_is_not_checked(write: Write) -> None:
    """TOML has no null: `off` switches one threshold of the gate off and leaves the others."""
    gate = load_settings(write('[gate]\nmax_perplexity_ratio = "off"\n')).gate
    assert gate.max_perplexity_ratio is None
    assert gate.min_efficacy_success == 0.95


def test_a_cron_line_alone_is_enough(write: Write) -> None:
    """A cron line does not clash with the default interval."""
    assert load_settings(write('[schedule]\ncron = "0 3 * * *"\n')).schedule.cron == "0 3 * * *"


@pytest.mark.parametrize(("name", "section"), sections())
def test_every_key_is_described_and_every_section_is_explained(name: str, section: type[Section]) -> None:
    """No key can be added without a sentence on what it is."""
    assert section.__doc__
    assert section.__doc__ != Section.__doc__
    for key, field in section.model_fields.items():
        assert field.description, f"{name}.{key} has no description"
        assert len(field.description) >= 10


def test_every_setting_lies_in_a_section() -> None:
    """There are no keys outside the tables, and no section is nested deeper than the messages reach."""
    assert len(sections()) == len(Settings.model_fields)
    for _, section in sections():
        for field in section.model_fields.values():
            kinds = [field.annotation, *get_args(field.annotation)]
            assert not any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def test_settings_can_not_be_changed() -> None:
    """What a run was started with stays what it is."""
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.edit.steps = 5  # type: ignore[misc]


def test_the_user_agent_has_name_version_and_contact() -> None:
    """The User-Agent has the form that Wikimedia's policy asks for, and says when there is no contact."""
    named = user_agent(SourceSettings(contact="ops@example.org"))
    assert named.startswith(f"kbsync/{__version__} (ops@example.org) ")
    assert "(no contact configured)" in user_agent(SourceSettings())


def test_shipped_files_are_found_and_missing_ones_told() -> None:
    """The relation catalogue ships with kbsync; what does not ship is a ConfigError."""
    assert share("config/relations.toml").is_file()
    with pytest.raises(ConfigError, match=r"config/none\.toml is missing from this installation"):
        share("config/none.toml")


def test_the_shipped_catalogue_serves_where_a_folder_has_none(write: Write) -> None:
    """A config file elsewhere still finds the catalogue that ships with kbsync."""
    assert load_settings(write("")).watch.catalogue == share("config/relations.toml")


def test_a_token_comes_from_the_environment_and_is_never_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there for the client, and in no text of the settings, nor in an error about its section."""
    monkeypatch.setenv("KBSYNC_SOURCE__TOKEN", "hush")
    settings = load_settings(write(""))
    assert settings.source.token is not None
    assert settings.source.token.get_secret_value() == "hush"
    assert "hush" not in repr(settings) + str(settings.model_dump(mode="json"))
    for text in ('endpoint = "https://evil.example/"', 'token_file = "x"', "timeout_s = -1"):
        with pytest.raises(ConfigError) as caught:
            load_settings(write(f"[source]\n{text}\n"))
        assert "hush" not in str(caught.value)


def test_a_token_file_lies_beside_the_config(write: Write) -> None:
    """A relative path starts at the config file's folder."""
    path = write('[source]\ntoken_file = "secret"\n')
    assert load_settings(path).source.token_file == path.parent / "secret"


def test_a_budget_that_is_off(write: Write) -> None:
    """TOML has no null; `off` is one."""
    source = load_settings(write('[source]\nseconds_per_minute = "off"\nerrors_per_minute = "off"\n')).source
    assert (source.seconds_per_minute, source.errors_per_minute) == (None, None)


def test_a_password_file_gives_the_stores_url_its_password(write: Write, tmp_path: Path) -> None:
    """Beside the config, without its line break, whatever characters it has; it wins over one in the URL."""
    (tmp_path / "secret").write_text("a/b@c:d %\n", encoding="utf-8")
    for url in ("postgresql+psycopg://kb@db/kbsync", "postgresql+psycopg://kb:***@db/kbsync"):
        path = write(f'[store]\nurl = "{url}"\npassword_file = "secret"\n')
        store = load_settings(path).store
        made = make_url(store.url)
        assert (made.username, made.password, made.host, made.database) == ("kb", "a/b@c:d %", "db", "kbsync")
        assert store.password_file == tmp_path / "secret"


def test_a_password_file_that_can_not_be(write: Write, tmp_path: Path) -> None:
    """One line, and never what is in the file."""
    server = 'url = "postgresql://kb@db/kbsync"'
    assert "can't be read: No such file" in error_of(write(f'[store]\n{server}\npassword_file = "none"\n'))
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    assert "is empty" in error_of(write(f'[store]\n{server}\npassword_file = "empty"\n'))
    for url in ("sqlite:///x.db", "postgresql://db/kbsync"):
        (tmp_path / "hush").write_text("hush", encoding="utf-8")
        said = error_of(write(f'[store]\nurl = "{url}"\npassword_file = "hush"\n'))
        assert "needs a store.url such as" in said
        assert "hush" not in said.replace("password_file", "")
