"""The command line: ``fitserve`` or ``python -m app``."""

import sys

import typer

from app.cli.commands import cli
from app.errors import ConfigurationError, FitserveError

EX_CONFIG = 78


def main() -> None:
    """Run the console script.

    Exits 78 where the configuration is wrong or the data are not what they should be, 1 for any
    other failure, with one line on standard error.
    """
    try:
        cli()
    except ConfigurationError as error:
        _fail(error, EX_CONFIG)
    except FitserveError as error:
        _fail(error, 1)


def _fail(error: FitserveError, code: int) -> None:
    typer.echo(f"fitserve: {error.detail}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
