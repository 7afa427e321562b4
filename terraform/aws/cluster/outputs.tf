output "kubeconfig" {
  description = "The command that lets kubectl in."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.cluster.name}"
}

output "service_account_roles" {
  description = "namespace/service account to the role for its annotation eks.amazonaws.com/role-arn."
  value = merge([for name, role in local.roles : {
    for subject in role.subjects :
    replace(trimprefix(subject, "system:serviceaccount:"), ":", "/") => module.identity.role_arns[name]
  }]...)
}

output "pools" {
  description = "Pool to its label slipway.dev/pool and its sizes."
  value       = module.node_pools.pools
}

output "public_subnet_ids" {
  description = "Where a public load balancer stands."
  value       = module.network.public_subnet_ids
}
