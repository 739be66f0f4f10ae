"""Episodes on disk, photos, and the dataset wrapper. Names are loaded when first used."""

from sim2real_aug.lazy import exports

_HOMES = {
    "AugmentedDataset": ".augmented",
    "PhotoSet": ".photos",
    "ReplayBuffer": ".replay_buffer",
    "ReplayBufferWriter": ".writer",
    "SequenceSampler": ".sequences",
    "load_photos": ".photos",
    "split_episodes": ".sequences",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
