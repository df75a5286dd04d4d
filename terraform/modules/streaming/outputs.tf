output "brokers" {
  description = "Addresses for clients that log in by SCRAM over TLS."
  value       = split(",", aws_msk_cluster.this.bootstrap_brokers_sasl_scram)
}

output "username" {
  description = "Who logs in."
  value       = var.username
}

output "cluster_arn" {
  description = "The brokers, for a replicator."
  value       = aws_msk_cluster.this.arn
}

output "security_group_id" {
  description = "Group of the brokers."
  value       = aws_security_group.brokers.id
}

output "secret_name" {
  description = "Where the client's password is put."
  value       = aws_secretsmanager_secret.client.name
}
