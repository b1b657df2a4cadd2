"""SQL that Ibis has no words for: a view over a query, and quoting."""

from typing import Any

import ibis


def view(con: Any, query: str) -> Any:
    """An Ibis table of `con` over a DuckDB query, which runs when the table is read."""
    name = ibis.util.gen_name("source")
    con.raw_sql(f"CREATE VIEW {name} AS {query}")
    return con.table(name)


def text(value: str) -> str:
    """`value` as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def column(value: str) -> str:
    """`value` as an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
