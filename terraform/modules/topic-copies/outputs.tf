output "receivers" {
  description = "Regions that receive the topics."
  value       = keys(aws_msk_replicator.this)
}
