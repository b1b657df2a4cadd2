"""What the gateway counts. Labels are closed sets: routes, statuses, parts, outcomes."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values

REQUESTS = Counter("mercato_requests_total", "Requests answered.", ["route", "status"])
LATENCY = Histogram(
    "mercato_request_seconds",
    "Time from the first byte of a request to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
DEGRADED = Counter("mercato_degraded_total", "Ranked answers given without one of their parts.", ["part"])
HARD_FAULTS = Counter("mercato_hard_faults_total", "Faults that must take a release out of traffic.", ["fault"])
EVENTS = Counter("mercato_events_total", "Events received.", ["outcome"])
UNEXPECTED = Counter("mercato_unexpected_errors_total", "Faults of ours that a client saw as 503.", ["route"])
IMPRESSIONS_LOGGED = Counter("mercato_impressions_logged_total", "Products shown whose impression was written.")
IMPRESSIONS_DROPPED = Counter("mercato_impressions_dropped_total", "Products shown whose impression was shed.")
GENERATION = Gauge(
    "mercato_routing_generation", "Generation of the routing document in force.", multiprocess_mode="livemin"
)
ROUTING_FAILURES = Counter("mercato_routing_failures_total", "Polls that could not bring what the routing asks for.")
POPULARITY_AGE = Gauge(
    "mercato_popularity_age_seconds",
    "Since the instant up to which update_popularity counted events, as of this look; NaN before its first run.",
    multiprocess_mode="livemostrecent",
)
READY = Gauge("mercato_ready", "1 when a release is loaded and warmed.", multiprocess_mode="livemin")
QUERIES = Counter("mercato_queries_total", "Queries that were to be understood.", ["query_class"])
QUERY_STEPS = Counter("mercato_query_steps_total", "Steps of query understanding that changed a query.", ["step"])
QUERY_SECONDS = Histogram(
    "mercato_query_understanding_seconds",
    "Time to understand a query.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1),
)
RELAXED = Counter(
    "mercato_queries_relaxed_total", "Queries that found something only after this was given up.", ["what"]
)
RULES = Gauge("mercato_merchandising_rules", "Merchandising rules that are read.", multiprocess_mode="livemostrecent")
RULES_REFUSED = Counter("mercato_merchandising_refused_total", "Changes of the rules' file that do not hold.")


def render() -> bytes:
    """All metrics in the Prometheus text format, summed over the worker processes."""
    if values.ValueClass is values.MutexValue:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
