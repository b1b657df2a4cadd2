"""What can be wrong with data that cross a boundary. Imports nothing heavy: Airflow resolves these names at parse."""

from mercato.errors import MercatoError


class ContractError(MercatoError):
    """Data or a description of data that break what was agreed; another try will not help."""


class BadShop(ContractError):
    """A shop's YAML cannot be used."""


class BadContract(ContractError):
    """A contract's YAML cannot be used."""


class SourceMissing(ContractError):
    """A source that the shop names is not there."""


class SchemaMismatch(ContractError):
    """A table has other columns or types than its contract."""


class TableRuleBroken(ContractError):
    """A rule over a whole table does not hold; nothing was written."""


class NoWindow(ContractError):
    """A run carries no window, and the clock is not asked for one."""


class CorruptFile(ContractError):
    """A file's bytes are not the ones its manifest names, or it was cut short."""


class ArtefactRefused(CorruptFile):
    """An artefact whose hash, kind or parse did not hold: it was not loaded."""


class UnknownRelease(ContractError):
    """No release carries this id."""
