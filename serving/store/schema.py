"""The tables of the store. A change here wants a migration beside it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
MOST_ID_CHARS = 512

_Seq = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up in INTEGER alone

events = Table(
    "events",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("event_id", String(MOST_ID_CHARS), nullable=False, unique=True),
    Column("user_id", String(MOST_ID_CHARS), nullable=False),
    Column("item_id", String(MOST_ID_CHARS), nullable=False),
    Column("event", String(64)),
    Column("weight", Double, nullable=False),
    Column("occurred_at", Double, comment="seconds since 1970, UTC, as the caller says; null: they do not"),
    Column("received_at", Double, nullable=False, comment="the same by the clock of the service"),
    Column("request_id", String(64), comment="of the list it came of; null: not told"),
    # a number that was deleted is not given again: what has been read up to a number stays true
    sqlite_autoincrement=True,
)
Index("ix_events_user_id", events.c.user_id, events.c.seq)
Index("ix_events_item_id", events.c.item_id, events.c.seq)
_names_a_list = events.c.request_id.is_not(None)  # the others cost the index nothing
Index("ix_events_request_id", events.c.request_id, sqlite_where=_names_a_list, postgresql_where=_names_a_list)

users = Table(
    "users",
    metadata,
    Column("user_id", String(MOST_ID_CHARS), primary_key=True),
    Column("description", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("user_hash", String(64), primary_key=True, comment="SHA-256: their id is not kept"),
    Column("forgotten_at", Double, nullable=False),
    comment="users whose history in a published version must not be used, nor learnt from again",
)

identity = Table(
    "identity",
    metadata,
    Column(
        "store_id",
        String(32),
        primary_key=True,
        comment="by chance, once: numbers of events are of this store",
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("secret_hash", String(64), nullable=False, comment="SHA-256: the secret is not kept"),
    Column("name", String(100), nullable=False),
    Column("scopes", String(100), nullable=False, comment="with spaces between"),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, comment="seconds since 1970, UTC; null: never"),
)

items = Table(
    "items",
    metadata,
    Column("item_id", String(MOST_ID_CHARS), primary_key=True),
    Column("change", BigInteger, nullable=False, unique=True, comment="rises with every change"),
    Column("fields", Text, comment="JSON, column to value; null: withdrawn"),
    Column("is_whole", Boolean, nullable=False, comment="else beside what a build knows"),
    Column("updated_at", Double, nullable=False),
)

experiments = Table(
    "experiments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("salt", String(32), nullable=False, comment="of the hash that gives users a variant"),
    Column("definition", Text, nullable=False, comment="JSON, as begun"),
    Column("slots", Text, nullable=False, comment="JSON: [first, end) of 10,000; of users' hashes"),
    Column("started_at", Double, nullable=False),
    Column("stopped_at", Double, comment="seconds since 1970, UTC; null: it runs"),
    Column("winner", String(64), comment="a variant; null: none was named"),
)

exposures = Table(
    "exposures",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("user_id", String(MOST_ID_CHARS), primary_key=True),
    Column("variant", String(64), nullable=False),
    Column("first_seen", Double, nullable=False, comment="by the clock of the service"),
    Column("is_merged", Boolean, nullable=False, comment="they had another id, and maybe another variant"),
    comment="the first answer of each user that an experiment had a part in",
)
Index("ix_exposures_user_id", exposures.c.user_id)

impressions = Table(
    "impressions",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("user_id", String(MOST_ID_CHARS), comment="null: nobody was named"),
    Column("shown_at", Double, nullable=False, index=True, comment="seconds since 1970, UTC"),
    Column("model_version", String(255), nullable=False),
    Column("policy", String(16), nullable=False, comment="see explore.policy"),
    Column("variant", String(255), comment="of an experiment; null: there was none"),
    Column("first_rank", Integer, nullable=False, comment="of the first place"),
    Column("is_plain", Boolean, nullable=False, comment="nothing was asked beyond the user"),
    Column("items", Text, nullable=False, comment="JSON: [[item_id, score, propensity], ...]"),
    Column("best", Text, nullable=False, comment="JSON: [item_id, ...] without exploring"),
    sqlite_autoincrement=True,
)

Index("ix_impressions_user_id", impressions.c.user_id, impressions.c.seq)

item_impressions = Table(
    "item_impressions",
    metadata,
    Column("item_id", String(MOST_ID_CHARS), primary_key=True),
    Column("shown", BigInteger, nullable=False),
    Column("updated_at", Double, nullable=False, index=True, comment="seconds since 1970, UTC"),
)
