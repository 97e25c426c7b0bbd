"""`kbsync sql` in hostile hands: it reads the store and nothing else, and takes no more than it may.

What is refused in time or memory runs in a process of its own; the limits here are small, to be reached soon.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from kbsync.errors import StoreError
from kbsync.store.engine import open_store
from kbsync.store.query import Bounds, run_sql
from tests.stores import Server

pytestmark = pytest.mark.timeout(60)  # a limit that does not hold is a test that hangs

SMALL = Bounds(memory=200_000_000, answer=5_000_000)
SERVED = Bounds(memory=200_000_000, answer=5_000_000)  # psycopg takes some
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
LONG = "printf('%.*c', 9000000, 'a')"

SQLITE = {
    # writes, other files, settings
    "another file": ("ATTACH '/tmp/kbsync-attack.db' AS x", "only one statement"),
    "a copy": ("VACUUM INTO '/tmp/kbsync-attack.db'", "only"),
    "the schema, writable": ("PRAGMA writable_schema=ON", "only one statement"),
    "the lock lifted": ("PRAGMA query_only=OFF", "only one statement"),
    "the limit lifted": ("PRAGMA hard_heap_limit=0", "only one statement"),
    "an extension": ("SELECT load_extension('/tmp/x.so')", "not authorized|no such function"),
    "a tokenizer's address": ("SELECT fts3_tokenizer('simple', x'00')", "not authorized|no such function"),
    "a virtual table": ("CREATE VIRTUAL TABLE temp.x USING fts5(a)", "only one statement"),
    "a row that comes back": ("DELETE FROM runs RETURNING id", "only one statement"),
    "a transaction": ("BEGIN EXCLUSIVE", "only one statement"),
    "a file": ("SELECT readfile('/etc/passwd')", "no such function"),
    "another file's bytes": ("SELECT writefile('/tmp/kbsync-attack', 'x')", "no such function"),
    # memory
    "a vast blob": ("SELECT zeroblob(1000000000)", "too big"),
    "a vast random blob": ("SELECT hex(randomblob(1000000000))", "too big"),
    "a vast text": ("SELECT printf('%.*c', 1000000000, 'x')", "too big|longer"),
    "a text that doubles": (
        "WITH RECURSIVE n(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM n) SELECT length(t) FROM n", "too big"),
    "all in one text": (f"{ENDLESS} SELECT group_concat(i) FROM n", "too big|longer"),
    "a vast array": (f"{ENDLESS} SELECT json_group_array(i) FROM n", "too big|longer"),
    "a wide row": (f"SELECT {', '.join(['zeroblob(9000000)'] * 300)}", "memory"),
    "many vast rows": (f"{ENDLESS} SELECT {LONG} FROM n", "over 5000000 bytes"),
    "endless rows": (f"{ENDLESS} SELECT i FROM n", "over 5000000 bytes|longer"),
    "escapes that grow": (f"{ENDLESS} SELECT replace(printf('%.*c', 900000, 'a'), 'a', char(1)) FROM n", "over"),
    "a sort without end": (f"{ENDLESS} SELECT i, randomblob(100000) AS b FROM n ORDER BY b", "memory|longer"),
    "a set without end": (f"{ENDLESS} SELECT DISTINCT randomblob(100000) FROM n", "memory|over|longer"),
    # time
    "a count without end": (f"{ENDLESS} SELECT count(*) FROM n", "longer"),
    "a cross join": (f"{ENDLESS} SELECT count(*) FROM n a, n b, n c", "longer"),
    "one pattern": (f"SELECT {LONG} LIKE '%{'a' * 900}b'", "longer"),
    "one glob": (f"SELECT {LONG} GLOB '*{'[a-z]' * 190}b'", "longer"),
    "one search": (f"SELECT instr({LONG}, {LONG.replace('9000000', '4000000')} || 'b')", "longer"),
    # parsers
    "a deep expression": (f"SELECT {'1+' * 5000}1", "too large|depth"),
    "deep brackets": (f"SELECT {'(' * 5000}1{')' * 5000}", "overflow|too large|depth"),
    "many unions": (" UNION ".join(["SELECT 1"] * 1000), "too many terms"),
    "a long statement": (f"SELECT '{'x' * 200_000}'", "SQL"),
    "a long pattern": (f"SELECT 'a' LIKE '{'%a' * 5000}'", "too complex"),
}  # fmt: skip

POSTGRES = {
    "the server's files": "SELECT pg_read_file('/etc/passwd')",
    "the server's files, quoted": "SELECT pg_catalog.\"pg_read_binary_file\"('/etc/passwd')",
    "the server's files, escaped": "SELECT U&\"pg\\005fread_file\"('/etc/passwd')",
    "the server's folders": "SELECT pg_ls_dir('/')",
    "a file written": "SELECT lo_export(1, '/tmp/x')",
    "a file written, past a comment": "SELECT lo_export/**/(1, '/tmp/x')",
    "a file taken": "SELECT lo_import('/etc/passwd')",
    "a large object": "SELECT lo_create(0)",
    "another server": "SELECT * FROM dblink('host=x', 'SELECT 1') AS t(a int)",
    "a copy": "COPY runs TO '/tmp/x'",
    "a program": "COPY runs TO PROGRAM 'id'",
    "the time limit lifted": "SELECT set_config('statement_timeout', '0', false)",
    "read-only lifted": "SELECT set_config('transaction_read_only', 'off', false)",
    "the role taken back": "SELECT set_config('role', 'postgres', false)",
    "a setting": "SET statement_timeout = 0",
    "another role": "RESET ROLE",
    "SQL in a text": "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SQL in a search": "SELECT * FROM ts_stat('SELECT to_tsvector(label) FROM entities')",
    "a table made": "SELECT 1 AS a INTO mine",
    "rows locked": "SELECT id FROM runs FOR UPDATE",
    "a row that comes back": "WITH x AS (DELETE FROM runs RETURNING id) SELECT * FROM x",
    "a block": "DO $$ BEGIN PERFORM 1; END $$",
    "a sleep": "SELECT pg_sleep(100)",
    "others ended": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "others stopped": "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
    "the writers' lock": "SELECT pg_advisory_lock(1)",
    "the server's settings": "SELECT pg_reload_conf()",
    "a number used up": "SELECT nextval('triggers_id_seq')",
    "a message": "SELECT pg_notify('x', 'y')",
    "passwords": "SELECT rolpassword FROM pg_authid",
    "passwords in a view": "SELECT passwd FROM pg_shadow",
    "a prepared statement": "EXECUTE x",
    "two statements": "SELECT 1; COMMIT",
}

DEAF = """CREATE OR REPLACE FUNCTION deaf() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('statement_timeout', '0', false);
    LOOP
        BEGIN PERFORM pg_sleep(5); EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP;
END $$"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store without rows."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'kbsync.db'}"
    open_store(url).close()
    return url


def attack(url: str, sql: str, bounds: Bounds = SMALL, seconds: float = 0.3) -> str:
    """What the refusal says, which is one line."""
    with pytest.raises(StoreError) as caught:
        run_sql(url, sql, limit=10**9, timeout_s=seconds, bounds=bounds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", SQLITE)
def test_sqlite_holds(name: str, store: str) -> None:
    """Each ends in one line that says which limit it met, and the store's bytes are as they were."""
    sql, reason = SQLITE[name]
    file = Path(store.removeprefix("sqlite:///"))
    before = file.read_bytes()
    with pytest.raises(StoreError, match=reason) as caught:
        run_sql(store, sql, limit=10**9, timeout_s=0.3, bounds=SMALL)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before
    assert not list(Path("/tmp").glob("kbsync-attack*"))


def test_honest_queries_keep_within_the_limits(store: str) -> None:
    """Sorting and grouping some megabytes, a long value, many rows: small limits are enough for all of it."""
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    found = run_sql(store, f"{many} SELECT i, printf('%.*c', 100, 'x') AS t FROM n ORDER BY t, i DESC", 10**6,
                    bounds=SMALL)  # fmt: skip
    assert len(found.rows) == 20_000
    assert found.rows[0] == (20_000, "x" * 100)
    assert run_sql(store, "SELECT printf('%.*c', 3000000, 'x')", bounds=SMALL).rows == (("x" * 3_000_000,),)


def test_the_process_that_asks_has_no_secrets(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It runs without the settings of the environment, and without a module that the folder may hold."""
    monkeypatch.setenv("KBSYNC_SOURCE__TOKEN", "hunter2")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sqlite3.py").write_text("import os; open('ran', 'w').write(os.environ['KBSYNC_SOURCE__TOKEN'])")
    assert run_sql(store, "SELECT 1").rows == ((1,),)
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """A laid-out database of the server."""
    return server.laid_out()


@pytest.mark.postgres
class TestPostgres:
    """The same on a server, where a SELECT can call a great deal."""

    @pytest.mark.parametrize("name", POSTGRES)
    def test_it_holds(self, name: str, url: str) -> None:
        """Each is refused as the superuser that the tests are."""
        said = attack(url, POSTGRES[name], SERVED, 5.0)
        assert "refused" in said or "SQL: " in said
        assert "longer" not in said

    @pytest.mark.parametrize(
        "sql",
        ["SELECT lo.a FROM (SELECT 1 AS a) lo", "SELECT 1 FROM pg_stat_activity LIMIT 1", "SELECT 'set', 'pg'"],
    )
    def test_words_that_are_near_pass(self, sql: str, url: str) -> None:
        """Names that only begin alike, and views that everyone may read."""
        assert len(run_sql(url, sql).rows) == 1

    def test_a_superuser_is_lowered(self, url: str) -> None:
        """It asks as a role that reads all tables, and no more."""
        assert run_sql(url, "SELECT current_user, count(*) FROM runs").rows == (("pg_read_all_data", 0),)

    def test_what_comes_back_is_bounded(self, url: str) -> None:
        """Many rows, and one value that the client would have to hold."""
        many = "SELECT repeat('x', 100000) FROM generate_series(1, 10000)"
        assert "over 5000000 bytes" in attack(url, many, SERVED, 5)
        assert "memory" in attack(
            url, "SELECT repeat('x', 30000000), repeat('y', 30000000), repeat('z', 30000000)", SERVED, 20
        )

    def test_time_is_bounded_whatever_is_set(self, url: str) -> None:
        """A function that a user of the server left there lifts the limit and can't be cancelled; its session
        is ended all the same."""
        Server.run(make_url(url).set(drivername="postgresql"), DEAF)
        assert "longer than 0.3 s" in attack(url, "SELECT deaf()", SERVED)
        with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(False)) as connection:
            left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%deaf()%' AND pid <> pg_backend_pid()"
            connection.execute("SELECT pg_sleep(0.5)")
            assert connection.execute(left).fetchone() == (0,)
        assert "longer than 0.3 s" in attack(url, "SELECT count(*) FROM generate_series(1, 10000000000)", SERVED)

    def test_a_role_of_its_own(self, url: str, server: Server) -> None:
        """With the grants that docs/sql.md names, a role reads the views and tables, and writes nothing."""
        address = make_url(url).set(drivername="postgresql")
        role = f"kbsync_reader_{uuid.uuid4().hex[:8]}"
        page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
        grants = page.split("```pgsql\n-- a role for kbsync sql\n")[1].split("```")[0]
        grants = grants.replace("kbsync_reader", role).replace("DATABASE kbsync", f"DATABASE {address.database}")
        for statement in grants.split(";"):
            server.run(address, statement)
        try:
            own = address.set(username=role).render_as_string(False)
            assert run_sql(own, "SELECT current_user, count(*) FROM live_facts").rows == ((role, 0),)
            with psycopg.connect(own) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("DELETE FROM runs")
            with psycopg.connect(own) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM tokens")
        finally:
            server.run(address, f"DROP OWNED BY {role}; DROP ROLE {role}")
