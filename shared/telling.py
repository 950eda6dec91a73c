"""The flags that both services have of what a process tells of itself; off, it is as well as ever and says less."""

from shared.flags import Flag

METRICS = "metrics"
POOL_METRICS = "pool_metrics"
STRUCTURED_LOGGING = "structured_logging"

TELLING = (
    Flag(METRICS, off_means="`/metrics` is an empty page; what is counted goes on being counted, and is there again"),
    Flag(POOL_METRICS, off_means="`/metrics` leaves out how the pool of database connections is used and waited for"),
    Flag(STRUCTURED_LOGGING, off_means="lines of the log are text for people, instead of one JSON object each"),
)
