"""The gain: does a policy that learned from edited frames do better where things look real?

Read `arms` for what is compared, `materials` for what each arm is made of, `units` for one measured arm, `table` for
the figures, and `run` for the experiment.
"""
