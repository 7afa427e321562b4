"""Kafka as a source. Knows Kafka and FastStream, no message.

A batch is read, committed to the lake, and only then its offsets are committed; the next read comes after that. After
a crash Kafka gives again what followed the last committed offset and does not say so: the lake's ids do.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker

from slipway.errors import StreamError
from slipway.stream import topic
from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS, Kind
from streaming.collector import Collector, Stopped
from streaming.config import StreamConfig
from streaming.delivery import Delivery
from streaming.metrics import Metrics
from streaming.producer import Publisher

log = logging.getLogger("slipway.streaming")
GROUP = "slipway"
ANSWER = 5.0  # seconds
LIBRDKAFKA = {"log_level": 2, "error_cb": lambda _: None}  # it goes on by itself; the heartbeat says what matters


class KafkaSource:
    def __init__(self, url: str, data_set: str, collector: Collector, config: StreamConfig, metrics: Metrics) -> None:
        self.url, self.collector, self.config, self.metrics = url, collector, config, metrics
        self.servers = urlsplit(url).netloc
        self.topics: dict[str, Kind] = {topic(data_set, kind): kind for kind in KINDS}
        self.letters = topic(data_set, DEAD_LETTERS)
        self._admin = AdminClient({"bootstrap.servers": self.servers, **LIBRDKAFKA})
        self._watch = Consumer({"bootstrap.servers": self.servers, "group.id": GROUP, **LIBRDKAFKA})
        self._publisher = Publisher(url, data_set)
        self._broker = KafkaBroker(
            self.servers, logger=None, apply_types=False, graceful_timeout=15, allow_auto_create_topics=False
        )
        for name in self.topics:
            self._subscribe(name)
        self._app = FastStream(self._broker, logger=None)
        self._heart: asyncio.Task[None] | None = None
        collector.publish = self._publish

    async def open(self) -> None:
        """Wait for Kafka, make the topics that there are not, read. Raises StreamError after wait_s."""
        await asyncio.to_thread(self._wait)
        await asyncio.to_thread(self._create_topics)
        await self._app.start()
        self._heart = asyncio.create_task(self._beat())

    async def close(self) -> None:
        if self._heart:
            self._heart.cancel()
        await self._app.stop()
        await asyncio.to_thread(self._watch.close)
        await asyncio.to_thread(self._publisher.close)

    async def backlog(self) -> int:
        """Messages whose offsets are not committed. Raises StreamError."""
        return await asyncio.to_thread(self._left)

    def _left(self) -> int:
        try:
            found = self._admin.list_topics(timeout=ANSWER).topics
            places = [
                TopicPartition(name, partition)
                for name in self.topics
                if name in found
                for partition in found[name].partitions
            ]
            left = 0
            for place in self._watch.committed(places, timeout=ANSWER):
                low, high = self._watch.get_watermark_offsets(place, timeout=ANSWER)
                left += high - max(place.offset, low)
        except KafkaException as error:
            raise StreamError(f"{self.url} does not answer: {error}", "start it again; nothing is lost") from error
        return left

    def _subscribe(self, name: str) -> None:
        async def as_it_is(message: Any) -> Any:
            return message

        subscriber = self._broker.subscriber(
            name,
            batch=True,
            group_id=GROUP,
            max_records=self.config.max_records,
            polling_interval=max(self.config.interval_ms, 10) / 1000,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            decoder=as_it_is,
        )

        async def handle(message: Any) -> None:
            for delivery in self._deliveries(name, message.raw_message):
                await self.collector.submit(delivery)
            await message.ack()

        async def handle_until_stopped(message: Any) -> None:
            # An offset that could not be committed means that the batch comes again, and the lake will know it.
            with contextlib.suppress(Stopped, KafkaException):
                await handle(message)

        subscriber(handle_until_stopped)

    def _deliveries(self, name: str, batch: Any) -> list[Delivery]:
        """One per partition: an offset counts within its partition only."""
        partitions: dict[int, list[Any]] = {}
        for message in batch:
            partitions.setdefault(message.partition(), []).append(message)
        return [
            Delivery(
                kind=self.topics[name],
                source=f"stream:{name}" + (f"[{partition}]" if partition else ""),
                texts=[message.value() or b"" for message in records],
                places=[message.offset() for message in records],
                oldest=records[0].timestamp()[1],
                redelivered=None,
            )
            for partition, records in sorted(partitions.items())
        ]

    async def _publish(self, letters: list[bytes]) -> None:
        await asyncio.to_thread(self._publisher.publish, DEAD_LETTERS, letters)

    def _wait(self) -> None:
        until, told = time.monotonic() + self.config.wait_s, False
        while True:
            try:
                self._admin.list_topics(timeout=1)
            except KafkaException as error:
                if time.monotonic() > until:
                    raise StreamError(
                        f"{self.url} does not answer: {error}", "start Kafka, or set SLIPWAY_EVENTS_URL"
                    ) from error
                if not told:
                    log.warning("%s does not answer; waiting up to %.0f s for it", self.url, self.config.wait_s)
                    told = True
            else:
                return

    def _create_topics(self) -> None:
        """With the broker's own number of partitions and copies; a topic that is there stays as it is.

        Asking for a topic makes it where the broker allows that; elsewhere it is made on purpose.
        """
        names = (*self.topics, self.letters)
        for name in names:
            self._admin.list_topics(name, timeout=ANSWER)
        there = self._admin.list_topics(timeout=ANSWER).topics
        wanted = [NewTopic(name) for name in names if name not in there]
        for name, done in self._admin.create_topics(wanted).items() if wanted else ():
            try:
                done.result(30)
            except (KafkaException, TimeoutError) as error:
                if "already exists" not in str(error).lower():
                    raise StreamError(
                        f"the topic {name} could not be made: {error}", "make it, or allow us to"
                    ) from error

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(ANSWER)
            try:
                await asyncio.to_thread(self._admin.list_topics, timeout=ANSWER)
            except KafkaException as error:
                if not self.metrics.broker_down:
                    log.warning("%s does not answer (%s); waiting, nothing is lost", self.url, error)
                self.metrics.broker_down = True
            else:
                if self.metrics.broker_down:
                    log.warning("%s answers again; going on", self.url)
                self.metrics.broker_down = False
