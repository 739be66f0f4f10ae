"""Push-T: physics, gymnasium environment, renderers (one file a domain), expert, recordings, `simulate`.

`gymnasium.make("sim2real_aug.envs:sim2real_aug/PushT-v0", obs_type="pixels", domain="flat")`
"""

from gymnasium.envs.registration import register

from sim2real_aug.envs.rendering import REGIONS, Renderer, Rendering, make_renderer

__all__ = ["ENV_ID", "REGIONS", "Renderer", "Rendering", "make_renderer"]

ENV_ID = "sim2real_aug/PushT-v0"
MAX_EPISODE_STEPS = 300

# By string: gymnasium 1.4 loads no entry points, and the environment's modules load only when one is made.
register(id=ENV_ID, entry_point="sim2real_aug.envs.push_t:PushTEnv", max_episode_steps=MAX_EPISODE_STEPS)
