from ..cli.conftest import cli, start  # noqa: F401 - fixtures
