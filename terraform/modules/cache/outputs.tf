output "url" {
  description = "Address for Attune, always over TLS."
  value = (local.cluster
    ? "rediss-cluster://${aws_elasticache_replication_group.this.configuration_endpoint_address}:6379"
    : "rediss://${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
  )
}

output "replication_group_id" {
  description = "Name of the cache, for setting its password."
  value       = aws_elasticache_replication_group.this.replication_group_id
}

output "secret_name" {
  description = "Where the client's password is put."
  value       = aws_secretsmanager_secret.client.name
}
