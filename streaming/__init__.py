"""The stream: events, exposures and feedback from Redis Streams or Kafka into the lake and the online store."""
