"""How often the garbage collector looks at how much: by default its pauses were the p99."""

import gc

# The youngest are looked at in portions that take a few milliseconds on a slow core, even when a thousand requests are in
# flight and many of them were just refused; the whole heap, which a rush fills with callers and their counts, hardly ever.
_YOUNG, _MIDDLE, _OLD = 5_000, 20, 1_000


def settle() -> None:
    """Take what start-up made out of the collector's sight, and let it work in small portions from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
