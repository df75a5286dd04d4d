# Topics that are missing are made; what is there stays.
set -eu
tool="${KAFKA_TOPICS:-/opt/kafka/bin/kafka-topics.sh}"
while read -r name partitions replication config; do
  [ -n "$name" ] || continue
  set -- --bootstrap-server "$BROKERS" --create --if-not-exists --topic "$name" \
    --partitions "$partitions" --replication-factor "$replication"
  for pair in $(echo "$config" | tr ',' ' '); do
    set -- "$@" --config "$pair"
  done
  "$tool" "$@"
done <"${FILES:-/files}/topics"
