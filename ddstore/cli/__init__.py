"""The command line: thin commands over :class:`ddstore.Store`, one small file per group."""

from __future__ import annotations

from ddstore.cli.app import app
from ddstore.cli.compact import compact, verify
from ddstore.cli.demo import demo
from ddstore.cli.doctor import doctor
from ddstore.cli.query import query
from ddstore.cli.recompress import recompress
from ddstore.cli.setup import extension, migrate
from ddstore.cli.stats import stats
from ddstore.cli.tables import adopt, create_table, policy, release
from ddstore.cli.write import write

__all__ = ["app", "main"]

# In the order in which a newcomer meets them: so does --help list them.
_COMMANDS = (
    demo,
    migrate,
    doctor,
    create_table,
    adopt,
    policy,
    write,
    compact,
    recompress,
    query,
    stats,
    verify,
    release,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(extension)


def main() -> None:
    """Run ``ddstore``; ends the process with an exit code of :class:`ddstore.cli.session.Status`."""
    app(prog_name="ddstore")
