"""The data dictionary, docs/data/dictionary.md: every table and column, rendered from contracts and shops."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from data_contracts.contract import Contract, RowRule, TableRule, contract_names, load_contract
from data_contracts.datasets import DATASETS, dataset_names
from data_contracts.shop import SHOPS, load_shop, own_tables
from data_contracts.tables import Table

_HEAD = """# Data dictionary

Generated from `data_contracts/`: `UPDATE_GOLDEN=1 make unit` writes it anew. Every table has an owner, a key, a version
and rules; what a version number promises is in [contracts.md](contracts.md).

"""
_LAYERS = (
    (
        "`raw/`",
        "the source's own columns, plus `event_time` and `known_at`",
        "`columns` in the shop's YAML; another one is an error",
    ),
    ("`clean/`", "the contract's columns", "`<table>.odcs.yaml`"),
    (
        "`quarantine/`",
        "the contract's columns, `broken_rules` (names, by commas) and `source_row` (JSON, without customers' ids)",
        "as `clean/`",
    ),
    ("`datasets/`", "the contract's columns and `split`", "`datasets/<name>.odcs.yaml`"),
)


def dictionary() -> str:
    """The whole page as Markdown."""
    layers = "\n".join(_table(("layer", "what it holds", "who promises it"), _LAYERS))
    parts = [_HEAD, layers, "## Clean tables\n"]
    parts += ["\n".join(_contract(load_contract(name))) for name in contract_names()]
    parts.append("## Training datasets\n")
    parts += ["\n".join(_contract(load_contract(name, DATASETS))) for name in dataset_names()]
    parts.append("## Raw tables\n")
    own = own_tables()
    for path in sorted(SHOPS.glob("*.yaml")):
        shop = load_shop(path.stem)
        intro = f"From `shops/{shop.name}.yaml`; the shop's zone is {shop.zone}, amounts are in {shop.currency}.\n"
        tables = {name: spec for name, spec in shop.tables.items() if spec != own.get(name)}
        parts += ["\n".join(_raw(shop.name, intro, tables, shop.identity_columns))]
    parts += ["\n".join(_raw("every shop", "Our own logs, from `own_logs.yaml`.\n", own, frozenset()))]
    return "\n".join(parts)


def _contract(contract: Contract) -> Iterator[str]:
    said = contract.description
    yield f"### {contract.name}\n"
    yield f"{said['purpose']} {said.get('limitations', '')}".strip() + "\n"
    yield f"{contract.tables[0].description}\n"
    facts = (
        f"Version {contract.version}",
        contract.status,
        f"owner {contract.owner}",
        f"key {', '.join(f'`{name}`' for name in contract.key)}",
    )
    yield f"{'; '.join(facts)}.\n"
    yield from _table(
        ("column", "type", "required", "classification", "meaning", "rules"),
        (
            (
                f"`{column.name}`",
                column.logicalType,
                "yes" if column.required else "",
                column.classification,
                column.description,
                "; ".join(_row_rule(rule) for rule in column.quality),
            )
            for column in contract.columns
        ),
    )
    if contract.table_rules:
        yield from _table(
            ("rule over the table", "dimension", "severity", "bound", "reason"),
            (
                (f"`{rule.name}`", rule.dimension, rule.severity, _bound(rule), rule.description)
                for rule in contract.table_rules
            ),
        )


def _row_rule(rule: RowRule) -> str:
    given = rule.arguments.model_dump(exclude_defaults=True)
    bounds = ", ".join(f"{name} `{_plain(value)}`" for name, value in given.items())
    return f"{rule.name} ({rule.severity}, {rule.dimension}): {bounds}; {rule.description}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _bound(rule: TableRule) -> str:
    low, high = rule.mustBeGreaterOrEqualTo, rule.mustBeLessOrEqualTo
    bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", low), ("<=", high)) if bound is not None]
    of = f" of {rule.arguments.column}" if rule.arguments.column else ""
    return f"{rule.measures}{of} {' and '.join(bounds)} {rule.unit}"


def _raw(title: str, intro: str, tables: Mapping[str, Table], secret: Collection[str]) -> Iterator[str]:
    yield f"### {title}\n"
    yield intro
    for table, spec in tables.items():
        goes: dict[str, list[str]] = {}
        for name, rule in spec.mapping.items():
            for column in filter(None, (rule.reads, rule.times)):
                goes.setdefault(column, []).append(f"`{name}`")
        for name, column in (
            ("event_time", spec.event_time.timestamp or spec.event_time.week),
            ("known_at", spec.known_at.column),
        ):
            goes.setdefault(column, []).append(f"`{name}`")
        yield f"#### {title}: {table}\n"
        yield from _table(
            ("source column", "type", "becomes"),
            ((f"`{column}`", kind, _becomes(column, goes, secret)) for column, kind in spec.columns.items()),
        )


def _becomes(column: str, goes: Mapping[str, list[str]], secret: Collection[str]) -> str:
    hidden = " (a customer's id: confidential, never leaves `raw/`)" if column in secret else ""
    return (", ".join(goes.get(column, [])) + hidden).strip()


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""
