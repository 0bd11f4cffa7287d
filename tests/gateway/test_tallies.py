"""What the gateway counts, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from msp_gateway.tallies import Distribution, Tallies, Tally


def test_the_page_is_the_one_that_prometheus_s_own_client_writes() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.005, 0.1, 1, 600)
    done, open_ = Tally("done", "So many", ["what"]), Tally("open", "Now", ["path"], gauge=True)
    took = Distribution("took_seconds", "So long", ["path", "model"], bounds)
    ours.register(Tallies(done, open_, took))
    their_done = Counter("done", "So many", ["what"], registry=theirs)
    their_open = Gauge("open", "Now", ["path"], registry=theirs)
    their_took = Histogram("took_seconds", "So long", ["path", "model"], buckets=bounds, registry=theirs)
    for what in ("a", 'b"\n', "a"):
        done.add(what)
        their_done.labels(what).inc()
    for by in (1, 1, -1):
        open_.of("/v1").value += by
        their_open.labels("/v1").inc(by)
    for value in (0.0, 0.005, 0.0051, 0.5, 1, 601):
        took.add(value, "/v1", "m")
        their_took.labels("/v1", "m").observe(value)
    assert _lines(ours) == _lines(theirs)
    assert any(line.startswith('took_seconds_bucket{le="600.0"') for line in _lines(ours))


def _lines(metrics: CollectorRegistry) -> list[str]:
    # When a series was made is told by the client alone.
    return [line for line in generate_latest(metrics).decode().splitlines() if "_created" not in line]
