output "name" {
  description = "Name of the pool."
  value       = aws_eks_node_group.this.node_group_name
}

output "labels" {
  description = "Labels of its nodes."
  value       = aws_eks_node_group.this.labels
}
