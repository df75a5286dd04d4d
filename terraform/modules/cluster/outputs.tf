output "name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of the API server, inside the network."
  value       = aws_eks_cluster.this.endpoint
}

output "node_role_arn" {
  description = "Role of nodes, for further pools."
  value       = aws_iam_role.node.arn
}

output "security_group_id" {
  description = "Group of control plane and nodes."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}
