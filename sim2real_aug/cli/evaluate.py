"""`sim2real-aug evaluate POLICY_RUN`: run a policy in closed loop and report how well it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command


@command("evaluate", config="evaluate", writes=True)
def evaluate(
    call: Call,
    policy: Annotated[Path, typer.Argument(metavar="POLICY_RUN", help="A run of train-policy.")],
    domain: Annotated[str | None, typer.Option(help="flat, randomized, randomized/N, pathtraced/SCENE.")] = None,
    episodes: Annotated[int | None, typer.Option(help="How many episodes.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first episode's seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Results and pictures; none: POLICY_RUN/evaluations/...")
    ] = None,
) -> Summary:
    """Run a policy in closed loop and score it.

    Success rate and coverage, with a 95 % interval.

    Example: sim2real-aug evaluate runs/policy --domain randomized/7
    """
    config = call.compose({"domain": domain, "episodes": episodes, "seed": seed}, policy=policy)
    from sim2real_aug.config import settings
    from sim2real_aug.policies.evaluation import EvaluateSettings
    from sim2real_aug.policies.evaluation import evaluate as measure

    chosen = settings(EvaluateSettings, config)
    out = chosen.folder(policy) if out is None else out
    call.hold(out)
    return measure(policy, chosen, out=out, overwrite=call.overwrite)
