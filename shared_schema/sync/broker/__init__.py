"""The broker seam on a real Kafka: the one package that imports aiokafka."""

from shared_schema.sync.broker.kafka import KafkaBroker as KafkaBroker
from shared_schema.sync.broker.lines import Lines as Lines
from shared_schema.sync.broker.reasons import FAILURES as FAILURES
from shared_schema.sync.broker.reasons import client_options as client_options
from shared_schema.sync.broker.reasons import say as say
