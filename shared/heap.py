"""How often the garbage collector looks at how much: by default its pauses were the p99."""

import gc

# The youngest, and those that outlived them, are looked at in small portions, because a look at all that a thousand
# requests in flight have made takes a hundred milliseconds; the whole heap, which callers and their counts fill, hardly ever.
_YOUNG, _MIDDLE, _OLD = 500, 2, 4_000


def settle() -> None:
    """Take what start-up made out of the collector's sight, and let it work in small portions from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
