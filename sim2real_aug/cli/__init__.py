"""The command line, `sim2real-aug`: one module a command, what they have in common in `common`."""


def main() -> None:
    """Entry point of `sim2real-aug`: run the command typed, exit with 0, 1, 2 or 130."""
    from sim2real_aug.cli.app import run

    raise SystemExit(run())
