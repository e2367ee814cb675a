"""Metrics as instruments of OpenTelemetry, collected by the real SDK."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref

import ironloop
import pytest
from ironloop.metrics import opentelemetry

from tests.peers.programs import package


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


class Collector:
    """A provider of its own, and what its reader sees."""

    def __init__(self):
        sdk = package("opentelemetry.sdk.metrics")
        self.reader = sdk.export.InMemoryMetricReader()
        self.provider = sdk.MeterProvider(metric_readers=[self.reader])
        self.meter = self.provider.get_meter("test")

    def collect(self):
        """{name: metric}"""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def values(self, name):
        """[(attributes, value)]"""
        return [(dict(point.attributes), point.value) for point in self.collect()[name].data.data_points]


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.provider.shutdown()


def test_counters_are_cumulative_and_say_their_unit(loop, collector):
    opentelemetry(loop, collector.meter)
    loop.run_until_complete(asyncio.sleep(0.001))
    turns = collector.collect()["ironloop.turns"]
    assert turns.data.is_monotonic
    assert turns.data.aggregation_temporality.name == "CUMULATIVE"
    assert turns.data.data_points[0].value == loop.metrics().turns
    assert collector.values("ironloop.timers_fired") == [({}, 1)]
    loop.run_until_complete(asyncio.sleep(0.001))
    found = collector.collect()
    assert found["ironloop.timers_fired"].data.data_points[0].value == 2
    assert found["ironloop.bytes_received"].unit == "By"
    assert found["ironloop.busy"].unit == "s"
    assert found["ironloop.busy"].data.data_points[0].value == loop.metrics().busy
    assert not found["ironloop.timers"].data.is_monotonic


def test_durations_are_quantiles_of_what_came_since_the_last_look(loop, collector):
    opentelemetry(loop, collector.meter)
    loop.run_until_complete(asyncio.sleep(0.001))
    quantiles = collector.values("ironloop.callback_time")
    assert [attributes["quantile"] for attributes, _ in quantiles] == [0.5, 0.9, 0.99, 1.0]
    values = [value for _, value in quantiles]
    assert values == sorted(values)
    assert values[-1] == loop.metrics().callback_time.max
    assert "ironloop.callback_time" not in collector.collect(), "nothing has happened since"


def test_loops_are_told_apart_by_their_attributes(loop, collector):
    other = ironloop.new_event_loop()
    opentelemetry(loop, collector.meter, {"worker": 1})
    opentelemetry(other, collector.meter, {"worker": 2})
    with pytest.raises(ValueError, match="another loop has the attributes"):
        opentelemetry(other, collector.meter, {"worker": 1})
    other.run_until_complete(asyncio.sleep(0.001))
    assert collector.values("ironloop.timers_fired") == [({"worker": 1}, 0), ({"worker": 2}, 1)]
    other.close()
    assert collector.values("ironloop.timers_fired") == [({"worker": 1}, 0)]


def test_a_loop_that_reports_again_has_its_new_attributes(loop, collector):
    opentelemetry(loop, collector.meter, {"worker": 1})
    opentelemetry(loop, collector.meter, {"worker": 2})
    assert [attributes for attributes, _ in collector.values("ironloop.turns")] == [{"worker": 2}]


def test_it_does_not_keep_the_loop(collector):
    loop = ironloop.new_event_loop()
    opentelemetry(loop, collector.meter)
    loop.close()
    known = weakref.ref(loop)
    del loop
    gc.collect()
    assert known() is None
    assert collector.collect().get("ironloop.turns") is None


def test_without_a_loop_it_is_the_running_one(loop, collector):
    async def main():
        opentelemetry(meter=collector.meter)
        return await asyncio.to_thread(collector.values, "ironloop.ready")

    assert len(loop.run_until_complete(main())) == 1
    with pytest.raises(RuntimeError, match="no running event loop"):
        opentelemetry()
    with pytest.raises(TypeError, match="is needed"):
        opentelemetry(object(), collector.meter)


PROGRAM = """
import asyncio, ironloop, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))

async def main():
    ironloop.metrics.opentelemetry()
    await asyncio.to_thread(metrics.get_meter_provider().force_flush)

ironloop.run(main())
metrics.get_meter_provider().shutdown()
"""


def test_the_global_provider_exports_it_from_another_thread():
    package("opentelemetry.sdk.metrics")
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=50)
    assert '"name": "ironloop.turns"' in output.stdout
    assert f'"version": "{ironloop.__version__}"' in output.stdout
    assert output.stderr == ""
