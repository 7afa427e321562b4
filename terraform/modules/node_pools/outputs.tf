output "pools" {
  description = "Pool to its label and its sizes."
  value = { for name, group in aws_eks_node_group.this : name => {
    kind = var.pools[name].kind
    min  = group.scaling_config[0].min_size
    max  = group.scaling_config[0].max_size
  } }
}

output "node_role_arn" {
  description = "The role that every node has."
  value       = aws_iam_role.node.arn
}
