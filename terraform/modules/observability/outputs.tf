output "otlp" {
  description = "Where services send traces and logs: the Collector in the cluster."
  value       = "http://attune-collector.${var.namespace}:4317"
}

output "remote_write_url" {
  description = "Where the Collector writes metrics."
  value       = "${aws_prometheus_workspace.this.prometheus_endpoint}api/v1/remote_write"
}

output "search_url" {
  description = "Where the Collector writes traces and logs."
  value       = "https://${aws_opensearch_domain.this.endpoint}"
}

output "alerts_topic_arn" {
  description = "Where Alertmanager sends alerts."
  value       = aws_sns_topic.alerts.arn
}
